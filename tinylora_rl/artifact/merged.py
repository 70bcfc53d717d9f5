"""The adapter merged into its base: a Hugging Face model like any other."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tinylora_rl.adapter import Survival
from tinylora_rl.adapter.merge import Rounding
from tinylora_rl.artifact.stored import StoredAdapter, opened
from tinylora_rl.atomic import new_directory, write_json
from tinylora_rl.base_model.folder import load_model

LINEAGE = "tinylora_merge.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def export_merged(
    adapter: StoredAdapter | str | Path,
    out: str | Path,
    *,
    model: PreTrainedModel | str | Path,
    dtype: torch.dtype | None = None,
    rounding: Rounding = "nearest",
    seed: int | str = 0,
    tokenizer_dir: str | Path | None = None,
) -> Survival:
    """Writes the base merged with `adapter` to `out`; returns how much of the update survived.

    Every merged weight is summed in fp32 and rounded once; `tinylora_merge.json` has the lineage.
    In memory there are the base and a second model of `dtype`.

    Args:
        model: the base model, the same afterwards; or its folder or id on the Hub.
        dtype: of all floating weights of the merged model; None keeps each weight's own. In
            bfloat16 an update of |v| below 1e-2 is lost in part, below 1e-3 nearly all of it.
        rounding: of the adapted weights. "stochastic" keeps small updates on average.
        tokenizer_dir: a local folder whose tokenizer files are copied.

    Raises:
        ValueError: `out` exists, `tokenizer_dir` holds no tokenizer, stochastic rounding to a dtype
            it is not defined for; or see `StoredAdapter.update`.
    """
    tokenizer_files = _tokenizer_files(tokenizer_dir)
    stored = opened(adapter)
    if isinstance(model, str | Path):
        model = load_model(model, dtype=stored.base_dtype)
    survival = Survival()
    with stored.adapted(model) as injected:
        merged = injected.merge(
            model.state_dict().items(), dtype=dtype, rounding=rounding, seed=seed, survival=survival
        )
        state = {
            name: weight.to(dtype) if dtype and weight.is_floating_point() else weight
            for name, weight in merged
        }
    with new_directory(Path(out)) as fresh:
        _shell(model, state).save_pretrained(fresh, max_shard_size="5GB")
        for path in tokenizer_files:
            shutil.copyfile(path, fresh / path.name)  # follows the links of the Hub's cache
        lineage = {
            "adapter_digest": stored.digest,
            "base_digest": stored.identity.base_digest,
            "provenance": stored.provenance.to_dict(),
            "rounding": rounding,
            "seed": seed,
            "survival": None if math.isnan(survival.share) else survival.share,  # v = 0
        }
        write_json(fresh / LINEAGE, lineage)
        for path in fresh.iterdir():
            path.chmod(0o644)  # safetensors writes 0600
    return survival


def _shell(model: PreTrainedModel, state: dict[str, torch.Tensor]) -> PreTrainedModel:
    """Returns a second model of the same class that holds `state` without a copy of it."""
    with torch.device("meta"):
        shell = type(model)(copy.deepcopy(model.config))
    shell.load_state_dict(state, assign=True)
    shell.tie_weights()
    shell.generation_config = model.generation_config
    return shell


def _tokenizer_files(tokenizer_dir: str | Path | None) -> list[Path]:
    if tokenizer_dir is None:
        return []
    found = [Path(tokenizer_dir) / name for name in TOKENIZER_FILES]
    found = [path for path in found if path.is_file()]
    if not found:
        raise ValueError(
            f"tokenizer_dir={tokenizer_dir}: holds none of {', '.join(TOKENIZER_FILES)}; give the "
            "base model's folder"
        )
    return found
