"""An adapter on the Hugging Face Hub: verified bytes and a card, nothing else of the folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tinylora_rl.artifact.model_card import CARD, render_card
from tinylora_rl.artifact.stored import StoredAdapter, opened


def stage(
    adapter: StoredAdapter | str | Path,
    out: str | Path,
    *,
    repo_id: str,
    base_model: str | None = None,
) -> list[Path]:
    """Writes to `out`, an empty folder, the files that are published of `adapter`.

    They are written anew from what was verified: no link and no stray file is published.
    """
    stored = opened(adapter)
    card = render_card(stored.manifest, stored.numbers, repo_id=repo_id, base_model=base_model)
    paths = []
    for name, content in {**stored.files(), CARD: card.encode()}.items():
        paths.append(Path(out) / name)
        paths[-1].write_bytes(content)
    return paths


def push(
    adapter: StoredAdapter | str | Path,
    repo_id: str,
    *,
    private: bool = False,
    base_model: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Uploads `adapter` to the repository `repo_id`; returns the commit's address.

    Credentials are huggingface_hub's own. The provenance is published as it stands in the manifest.

    Raises:
        OSError: the Hub cannot be reached, or refuses.
    """
    import httpx  # what huggingface_hub 1.x speaks HTTP with
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        stage(adapter, folder, repo_id=repo_id, base_model=base_model)
        api = HfApi(endpoint=endpoint)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="Upload TinyLoRA adapter"
            )
        except httpx.HTTPError as error:
            raise OSError(f"repo_id={repo_id}: {api.endpoint}: {error}") from error
    return str(commit)
