"""Describes what a run is going to do and to need, in lines for a person: counted, not tried."""

from __future__ import annotations

from collections.abc import Sequence

from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.methods import Size
from tinylora_rl.planning.cost import estimate, planned_steps
from tinylora_rl.planning.memory import (
    Phase,
    kv_bytes,
    sync_bytes,
    training_phases,
)
from tinylora_rl.planning.storage import host_memory
from tinylora_rl.planning.table import as_gib
from tinylora_rl.settings.experiment import Experiment

GIB = 1 << 30
GPUS = (  # GiB of memory as their driver states it, rounded down
    ("L4", 22),
    ("A100 40GB", 39),
    ("L40S", 44),
    ("A100 80GB or H100", 79),
    ("H200", 139),
    ("B200", 178),
)
NEAR = 0.9  # of a GPU's memory: an estimate may be off by as much as is left
Rows = list[tuple[str, str]]


def training_plan(experiment: Experiment, dims: ModelDims, size: Size) -> Rows:
    """(label, text) lines of a run of `train` or `sft`."""
    rows = [
        ("model", f"{experiment.base.id}, {dims}"),
        ("trains", _trains(size)),
    ]
    rows += _reinforced(experiment, dims, size) if experiment.is_rl else _supervised(experiment)
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
    return rows + needs(experiment, dims, size)


def needs(experiment: Experiment, dims: ModelDims, size: Size) -> Rows:
    """Describes its needs: GPUs of which size, and the same run on fewer of them; host memory."""
    memory, parts = host_memory(experiment, dims, size)
    rows: Rows = []
    if experiment.hardware.kind == "cuda":
        phases = training_phases(experiment, dims, size)
        count = experiment.hardware.num_devices
        rows.append(("GPUs", f"{count} with {enough(phases)}, bf16 (Ampere or newer)"))
        rows += [("", f"{phase.name}: {parts_in(phase)}") for phase in phases]
        if fewer := _on_fewer(experiment, dims, size):
            rows.append(("", f"on fewer (trainer.n_gpus_per_node): {fewer}"))
        if experiment.is_rl:
            rows.append(("KV cache", _kv_cache(experiment, dims, phases)))
    rows.append(("host memory", f"about {as_gib(memory)} a node: {parts}"))
    return rows


def enough(phases: Sequence[Phase]) -> str:
    """`30 GiB or more each (L40S, ...)`: the smallest GPU that holds every phase."""
    least = max(phase.least_bytes() for phase in phases)
    holding = [name for name, size in GPUS if NEAR * size * GIB >= least]
    named = f" ({', '.join(holding)})" if holding else " (no GPU we know: use more of them)"
    return f"{as_gib(least)} of memory or more each{named}"


def parts_in(phase: Phase) -> str:
    """The phase in words: its parts, the large ones."""
    large = [part for part in (*phase.parts, *phase.share) if part.num_bytes >= GIB / 20]
    named = ", ".join(
        f"{part.name} {'' if part.is_exact else '~'}{part.num_bytes / GIB:.1f}" for part in large
    )
    share = f", vLLM's share {phase.utilization:g}" if phase.utilization else ""
    return f"{as_gib(phase.least_bytes())} ({named}{share})"


def _trains(size: Size) -> str:
    vector = f", v {as_gib(size.vector_bytes)}, bank {as_gib(size.bank_bytes)}"
    return size.what + (vector if size.vector_bytes else "")


def _reinforced(experiment: Experiment, dims: ModelDims, size: Size) -> Rows:
    batch, replicas = experiment.batch, experiment.num_replicas
    samples = batch.prompts * batch.samples
    tokens = samples * batch.sample_tokens
    steps = planned_steps(experiment)
    each = sync_bytes(experiment, dims, size)
    return [
        (
            "sync",
            f"{experiment.sync.mode}: {as_gib(each)} a step to each of {replicas} rollout "
            f"replica{'' if replicas == 1 else 's'}",
        ),
        (
            "a step",
            f"{batch.prompts} prompts x {batch.samples} samples = {samples:,} responses, "
            f"at most {batch.max_prompt_tokens:,} + {batch.max_response_tokens:,} tokens each: at "
            f"most {tokens:,} tokens",
        ),
        ("steps", f"{steps:,}, at most {steps * tokens:,} tokens of training"),
    ]


def _supervised(experiment: Experiment) -> Rows:
    steps, batch = planned_steps(experiment), experiment.batch
    return [
        (
            "steps",
            f"{steps:,} of {experiment.update_rows} worked answers, at most "
            f"{batch.max_prompt_tokens:,} + {batch.max_response_tokens:,} tokens each",
        )
    ]


def _on_fewer(experiment: Experiment, dims: ModelDims, size: Size) -> str:
    """The least memory of a GPU for each smaller number of them on one node."""
    fewer = []
    for count in (4, 2, 1):
        if count < experiment.hardware.per_node and experiment.hardware.nodes == 1:
            phases = training_phases(experiment, dims, size, ranks=count)
            fewer.append(f"{count} with {as_gib(max(phase.least_bytes() for phase in phases))}")
    return ", ".join(fewer)


def _kv_cache(experiment: Experiment, dims: ModelDims, phases: Sequence[Phase]) -> str:
    """Counts the samples of full length that vLLM holds on the smallest GPU that will do."""
    rollout = experiment.rollout
    least = max(phase.least_bytes() for phase in phases)
    size = next((size for _, size in GPUS if NEAR * size * GIB >= least), GPUS[-1][1])
    phase = phases[-1]
    fixed = sum(part.num_bytes for part in phase.share if not part.name.startswith("KV"))
    token = kv_bytes(dims, rollout.dtype, rollout.tensor_parallel_size)
    left = max(0.0, phase.utilization * size * GIB - fixed)
    batch = experiment.batch
    samples = -(-batch.prompts * batch.samples // experiment.num_replicas)
    return (
        f"{as_gib(token)} a token; with {size} GiB a GPU {as_gib(left)}, that is "
        f"{left / token / rollout.max_model_len:.0f} samples of {rollout.max_model_len:,} tokens "
        f"at once, of {samples} a replica and step"
    )
