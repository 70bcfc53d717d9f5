"""Groups runs that differ only in learning rate and seed into variants: the rows of the tables.

Algorithm, model, adapter and control are always compared; further differences are found by
comparing configurations: a sweep over any key makes a variant of each value, labelled with the key.
Settings of where files are kept and how often a run is validated or saved do not count.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinylora_rl.studies.records import RunRecord, setting
from tinylora_rl.studies.size import NAMES, count_text

ALGORITHMS = {"train": "GRPO", "sft": "SFT"}
WITHIN = ("seed", "lr")  # the two dimensions within a variant, in any section
BOOKKEEPING = ("run", "hydra", "trainer", "cost", "sweep", "command", "verb", "device")  # sections
MATTERS = ("trainer.total_training_steps", "trainer.total_epochs")  # of BOOKKEEPING, yet compared
NAMING = ("recipe", "experiment_name", "project_name", "provenance", "path", "dir", "plugins")
WATCHING = ("save_freq", "max_checkpoints", "evaluate")  # and canary_*
GRADING = ("deadline_s", "num_workers", "memory_limit_mb")  # limits of the graders
MOST_NAMED = 3  # differences named in a label
COPIES = ("adapter", "actor_rollout_ref.model.lora.tinylora.adapter")  # compared as a whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One size of one algorithm.

    Attributes:
        algorithm: GRPO or SFT.
        adapter: the configuration's group, without its seed.
        differences: settings in which this variant differs from otherwise equal ones.
        runs: with their learning rates and seeds, in the order given.
    """

    algorithm: str
    model: str
    kind: str
    adapter: Mapping[str, Any]
    control: str | None
    differences: Mapping[str, Any]
    runs: tuple[RunRecord, ...]

    @property
    def num_parameters(self) -> int | None:
        """Trained numbers, from the first run that states them."""
        found = (run.size.num_parameters for run in self.runs)
        return next((count for count in found if count is not None), None)

    @property
    def num_bytes(self) -> int | None:
        found = (run.size.num_bytes for run in self.runs)
        return next((count for count in found if count is not None), None)

    @property
    def name(self) -> str:
        """Algorithm, count and label."""
        return f"{self.algorithm} {count_text(self.num_parameters)}: {self.label}"

    @property
    def label(self) -> str:
        """The adapter and the differences, without algorithm, model and count."""
        parts = [NAMES.get(self.kind, self.kind)]
        adapter = self.adapter
        if self.kind in ("tinylora", "lora_xs"):
            parts += [f"u={adapter['u']}"] if self.kind == "tinylora" else []
            parts.append(f"n_tie={adapter.get('n_tie', 1)}")
            parts += [f"r={adapter['r']}"] if adapter.get("r", 2) != 2 else []
            parts += ["structured"] if adapter.get("tie_mode") == "structured" else []
            parts += [adapter["v_dtype"]] if adapter.get("v_dtype", "float32") != "float32" else []
        elif self.kind == "lora":
            parts.append(f"r={adapter.get('r')}")
        if self.control:
            parts.append(f"control={self.control}")
        differences = [
            f"{key}={value}" for key, value in self.differences.items() if value is not None
        ]
        parts += differences[:MOST_NAMED]
        if len(differences) > MOST_NAMED:
            parts.append(f"and {len(differences) - MOST_NAMED} more settings")
        return " ".join(parts)


def variants_of(runs: Sequence[RunRecord]) -> list[Variant]:
    """Groups `runs`: GRPO before SFT, small before large, among equals as first met."""
    alike: dict[str, list[RunRecord]] = {}
    for run in runs:
        alike.setdefault(_declared(run), []).append(run)
    variants = [variant for group in alike.values() for variant in _split(group)]
    order = list(ALGORITHMS.values())
    return sorted(
        variants,
        key=lambda variant: (
            variant.model,
            order.index(variant.algorithm),
            variant.control is not None,
            variant.num_parameters if variant.num_parameters is not None else 1 << 62,
        ),
    )


def _declared(run: RunRecord) -> str:
    return json.dumps(
        [run.command, run.model, _control(run), run.size.kind, _adapter(run)], sort_keys=True
    )


def _split(runs: list[RunRecord]) -> Iterator[Variant]:
    flat = [dict(_settings(run)) for run in runs]
    keys = sorted({key for settings in flat for key in settings})
    # A key that a run does not have is null: versions add keys, with null as their default.
    differing = [key for key in keys if any(s.get(key) != flat[0].get(key) for s in flat)]
    groups: dict[str, list[int]] = {}
    for index, settings in enumerate(flat):
        identity = json.dumps([settings.get(key) for key in differing])
        groups.setdefault(identity, []).append(index)
    for indices in groups.values():
        first = runs[indices[0]]
        yield Variant(
            algorithm=ALGORITHMS.get(first.command, first.command),
            model=first.model,
            kind=first.size.kind,
            adapter=_adapter(first),
            control=_control(first),
            differences=_shortened({key: flat[indices[0]].get(key) for key in differing}),
            runs=tuple(runs[index] for index in indices),
        )


def _adapter(run: RunRecord) -> dict[str, Any]:
    adapter = run.config.get("adapter") or {}
    return {key: value for key, value in adapter.items() if key != "seed"}


def _control(run: RunRecord) -> str | None:
    control = setting(run.config, "task.control")
    return str(control) if control else None


def _settings(run: RunRecord) -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of every setting that may change the outcome."""
    directory = str(setting(run.config, "run.dir") or run.source)
    for key, value in _flat(run.config):
        parts = key.split(".")
        if key not in MATTERS and (
            parts[0] in BOOKKEEPING
            or any(part in NAMING or part.endswith("_dir") for part in parts)
            or (parts[-1] in (*WATCHING, *GRADING, "method") or parts[-1].startswith("canary_"))
            or any(part in WITHIN or part.endswith("_seed") for part in parts)
            or key.startswith(tuple(f"{copy}." for copy in COPIES))
            or (isinstance(value, str) and (directory in value or value.startswith("/")))
        ):
            continue
        yield key, value


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not (isinstance(value, list) and any("/" in str(item) for item in value)):
            yield f"{prefix}{key}", value


def _shortened(differences: Mapping[str, Any]) -> dict[str, Any]:
    """Cuts keys to their last part where that is unambiguous."""
    short: dict[str, Any] = {}
    for key, value in differences.items():
        last = key.rpartition(".")[2]
        short[last if short.get(last, value) == value else key] = value
    return short
