"""An adapter in words: a dozen lines for a terminal, the model card of a published one. No torch.

The manifest may be a stranger's: its values are quoted for YAML and escaped for Markdown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tinylora_rl.artifact.files import PAYLOAD, values
from tinylora_rl.artifact.manifest import MANIFEST

CARD = "README.md"
SHOWN_VALUES = 16
SHOWN_CHARACTERS = 200
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)

_LOAD = """\
```python
import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM
from tinylora_rl import artifact

model = AutoModelForCausalLM.from_pretrained({base}, dtype=torch.{dtype}{revision})
adapter = artifact.load(snapshot_download({repo_id}), model)  # verifies every digest
```

For PEFT and vLLM, `python -m tinylora_rl.adapters export DIR --to peft-lora --base BASE --out OUT`
writes a LoRA of rank {r} that makes the same update; `--to merged` writes a whole model."""


def summarise(manifest: Mapping[str, Any], numbers: bytes) -> list[tuple[str, str]]:
    """Returns (label, value) pairs of a verified adapter; all printable, whoever wrote it."""
    config = manifest["config"]
    provenance = manifest["provenance"]
    v = values(numbers, manifest["payload_dtype"])
    num_groups, u = manifest["payload_shape"]
    rows: list[tuple[str, Any]] = [
        ("numbers", f"{manifest['num_parameters']} = u {u} x {num_groups} groups"),
        ("payload", f"{manifest['payload_bytes']} bytes, {manifest['payload_dtype']}"),
        ("modules", f"{manifest['num_modules']}: {_listed(config.get('target_modules'))}"),
        ("tying", f"{config.get('tie_mode')}, n_tie {config.get('n_tie')}"),
        ("SVD", f"r {config.get('r')}, split {config.get('svd_split')}"),
        ("P", f"{config.get('projection')}, seed {config.get('seed')}"),
        ("|v|", f"{math.hypot(*v):.6g}, largest {max(map(abs, v)):.6g}"),
    ]
    if len(v) <= SHOWN_VALUES:
        rows.append(("v", " ".join(f"{value:.6g}" for value in v)))
    for key, value in provenance.items():
        if key != "metrics":
            rows.append((key, value))
    rows += [(name, f"{value:.6g}") for name, value in provenance.get("metrics", {}).items()]
    rows += [
        ("base dtype", manifest["base_dtype"]),
        ("base digest", manifest["identity"]["base_digest"]),
        ("P digest", manifest["identity"]["projection_digest"]),
        ("digest", f"{manifest['digest']} (verified: {MANIFEST}, {PAYLOAD})"),
        ("versions", " ".join(f"{name} {of}" for name, of in manifest["versions"].items())),
        ("created", manifest["created"]),
    ]
    return [(printable(name), printable(value)) for name, value in rows]


def render_table(rows: Sequence[tuple[str, str]]) -> str:
    """Returns one line per row, the values aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def printable(value: object) -> str:
    """Returns one short line of `value` without control characters, which could move the cursor."""
    text = escaped(str(value))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def escaped(text: str) -> str:
    """Escapes control characters and what is no Unicode: a stranger's text moves no cursor."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _listed(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def render_card(
    manifest: Mapping[str, Any], numbers: bytes, *, repo_id: str, base_model: str | None = None
) -> str:
    """Returns the README.md of the verified adapter, with the Hub's front matter."""
    provenance = manifest["provenance"]
    base = base_model or provenance.get("base_model")
    num_parameters = manifest["num_parameters"]
    parts = [
        _front_matter(base),
        f"# {_text(repo_id.rpartition('/')[2])}",
        f"A TinyLoRA adapter: {num_parameters} trained numbers, {manifest['payload_bytes']} bytes, "
        f"for {_code(base) if base else 'the base model whose digest stands below'}. Method: "
        "[Learning to Reason in 13 Parameters](https://arxiv.org/abs/2602.04118).",
        "## Load it",
        _LOAD.format(
            base=json.dumps(base or "BASE"),
            dtype=re.sub(r"\W", "", manifest["base_dtype"]),
            revision=_argument("revision", provenance.get("base_revision")),
            repo_id=json.dumps(repo_id),
            r=_text(manifest["config"].get("r")),
        ),
    ]
    if metrics := provenance.get("metrics"):
        parts += ["## Measured", _table(("metric", "value"), _metric_rows(metrics))]
    if template := provenance.get("prompt_template"):
        parts += ["## Prompt", "The prompt it was trained with:", _fenced(template)]
    rows = [(_text(name), _code(value)) for name, value in summarise(manifest, numbers)]
    parts += [
        "## Identity",
        f"`{MANIFEST}` and `{PAYLOAD}` are covered by one digest; the base model's target weights, "
        "P and the singular vectors are checked on loading.",
        _table(("field", "value"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def is_hub_id(name: str | None) -> bool:
    """Returns True for owner/name on the Hub, False for what reads as a folder."""
    return name is not None and _HUB_ID.fullmatch(name) is not None and not name.startswith(".")


def _front_matter(base: str | None) -> str:
    lines = ["---", "library_name: tinylora-rl", "pipeline_tag: text-generation"]
    if is_hub_id(base):
        lines += [f"base_model: {json.dumps(base)}", "base_model_relation: adapter"]
    tags = ["tinylora", "lora", "grpo", "reinforcement-learning"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _metric_rows(metrics: dict[str, float]) -> list[tuple[str, str]]:
    return [(_text(name), f"{value:.6g}") for name, value in metrics.items()]


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)


def _argument(name: str, value: str | None) -> str:
    return f", {name}={json.dumps(value)}" if value else ""


def _text(value: object) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#!])", r"\\\1", printable(value))


def _code(value: object) -> str:
    """Returns inline code, also for a table: there a bar must be escaped; a back-tick cannot be."""
    return f"`{printable(value).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
