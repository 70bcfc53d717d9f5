"""Describes what a run is going to do and to need, in lines for a person: counted, not tried."""

from __future__ import annotations

from tinylora_rl.base_model import ModelDims
from tinylora_rl.methods import Size
from tinylora_rl.planning.cost import estimate, planned_steps
from tinylora_rl.planning.finding import as_gib
from tinylora_rl.planning.machine import host_memory
from tinylora_rl.planning.memory import enough, sync_bytes, training_phases
from tinylora_rl.settings.experiment import Experiment

Rows = list[tuple[str, str]]
"""(label, text) lines."""


def training_plan(experiment: Experiment, dims: ModelDims, size: Size) -> Rows:
    """Describes a run of `train` or `sft`."""
    vector = f", v {as_gib(size.vector_bytes)}, bank {as_gib(size.bank_bytes)}"
    rows: Rows = [
        ("model", f"{experiment.base.id}, {dims}"),
        ("trains", size.what + (vector if size.vector_bytes else "")),
        *_steps(experiment, dims, size),
    ]
    cost = estimate(experiment)
    if cost is None:
        rows.append(("time", "unknown: state cost.num_parameters"))
    else:
        rows.append(("tokens", f"about {cost.tokens:,} with validation, as assumed below"))
        rows.append(
            (
                "time",
                f"about {cost.hours:.2g} {cost.unit}, {cost.seconds / 3600:.2g} from start to end, "
                f"assuming {cost.assumption}",
            )
        )
    if experiment.hardware.kind == "cuda":
        phases = training_phases(experiment, dims, size)
        count = experiment.hardware.num_devices
        rows.append(("GPUs", f"{count} with {enough(phases)}, bf16 (Ampere or newer)"))
        rows += [("", f"{phase.name}: {phase}") for phase in phases]
        if fewer := _on_fewer(experiment, dims, size):
            rows.append(("", f"on fewer (trainer.n_gpus_per_node): {fewer}"))
    rows.append(("host memory", f"about {as_gib(host_memory(experiment, dims))} a node"))
    return rows


def _steps(experiment: Experiment, dims: ModelDims, size: Size) -> Rows:
    batch, steps = experiment.batch, planned_steps(experiment)
    lengths = f"at most {batch.max_prompt_tokens:,} + {batch.max_response_tokens:,} tokens each"
    if not experiment.is_rl:
        return [("steps", f"{steps:,} of {experiment.update_rows} worked answers, {lengths}")]
    samples, replicas = batch.prompts * batch.samples, experiment.num_replicas
    tokens = samples * batch.sample_tokens
    return [
        (
            "sync",
            f"{experiment.sync.mode}: {as_gib(sync_bytes(experiment, dims, size))} a step to each "
            f"of {replicas} rollout replica{'' if replicas == 1 else 's'}",
        ),
        (
            "a step",
            f"{batch.prompts} prompts x {batch.samples} samples = {samples:,} responses, "
            f"{lengths}: at most {tokens:,} tokens",
        ),
        ("steps", f"{steps:,}, at most {steps * tokens:,} tokens of training"),
    ]


def _on_fewer(experiment: Experiment, dims: ModelDims, size: Size) -> str:
    """Returns the least memory of a GPU for each smaller number of them on one node."""
    fewer = []
    for count in (4, 2, 1):
        if count < experiment.hardware.per_node and experiment.hardware.nodes == 1:
            phases = training_phases(experiment, dims, size, ranks=count)
            fewer.append(f"{count} with {as_gib(max(phase.least_bytes() for phase in phases))}")
    return ", ".join(fewer)
