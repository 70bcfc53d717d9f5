"""An adapter on the Hugging Face Hub: verified bytes and a card, nothing else of the folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tinylora_rl.artifact.card import CARD, render_card
from tinylora_rl.artifact.manifest import MANIFEST, read_numbers, render_manifest
from tinylora_rl.artifact.payload import PAYLOAD, encode


def stage(
    directory: str | Path, out: str | Path, *, repo_id: str, base_model: str | None = None
) -> list[Path]:
    """`out`, an empty folder, holds what would be published of the adapter in `directory`.

    The files are written anew from what was verified, so that neither a link nor a stray file in
    `directory` is published.

    Raises:
        ValueError: the adapter is incomplete or damaged.
    """
    manifest, numbers = read_numbers(directory)
    out = Path(out)
    fields = {key: value for key, value in manifest.items() if key != "digest"}
    payload = encode(numbers, manifest["payload_dtype"], manifest["payload_shape"])
    card = render_card(manifest, numbers, repo_id=repo_id, base_model=base_model)
    (out / MANIFEST).write_bytes(render_manifest(fields))
    (out / PAYLOAD).write_bytes(payload)
    (out / CARD).write_text(card, encoding="utf-8")
    return [out / MANIFEST, out / PAYLOAD, out / CARD]


def push(
    directory: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    base_model: str | None = None,
    endpoint: str | None = None,
) -> str:
    """The adapter in `directory` lies in the repository `repo_id`; returns the commit's address.

    Credentials are huggingface_hub's own. The provenance is published as it stands in the manifest.

    Raises:
        ValueError: the adapter is incomplete or damaged; nothing was sent then.
        OSError: the Hub cannot be reached, or refuses.
    """
    import httpx  # what huggingface_hub 1.x speaks HTTP with
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        stage(directory, folder, repo_id=repo_id, base_model=base_model)
        api = HfApi(endpoint=endpoint)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="Upload TinyLoRA adapter"
            )
        except httpx.HTTPError as error:
            raise OSError(f"repo_id={repo_id}: {api.endpoint}: {error}") from error
    return str(commit)
