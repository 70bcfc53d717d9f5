"""What a run is going to do and to need, in lines for a person: counted, not tried."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.planning.cost import estimate, total_steps
from tinylora_rl.planning.memory import (
    Phase,
    kv_bytes,
    num_ranks,
    training_phases,
)
from tinylora_rl.planning.storage import host_memory
from tinylora_rl.planning.table import as_gib
from tinylora_rl.planning.trained import Trained, sync_bytes

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


def training_plan(config: DictConfig, shape: ModelDims, trained: Trained) -> Rows:
    """(label, text) lines of a run of `train` or `sft`."""
    rows = [
        ("model", f"{config.base_model.path}, {shape}"),
        ("trains", _trains(trained)),
    ]
    rows += _reinforced(config, shape, trained) if config.verb == "train" else _supervised(config)
    cost = estimate(config)
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
    return rows + needs(config, shape, trained)


def needs(config: DictConfig, shape: ModelDims, trained: Trained) -> Rows:
    """What it takes: GPUs of which size, and the same run on fewer of them; host memory."""
    memory, parts = host_memory(config, shape, trained)
    rows: Rows = []
    if config.trainer.device == "cuda":
        phases = training_phases(config, shape, trained)
        count = num_ranks(config) + (
            config.placement.rollout_gpus * config.actor_rollout_ref.rollout.nnodes
        )
        rows.append(("GPUs", f"{count} with {enough(phases)}, bf16 (Ampere or newer)"))
        rows += [("", f"{phase.name}: {parts_in(phase)}") for phase in phases]
        if fewer := _on_fewer(config, shape, trained):
            rows.append(("", f"on fewer (trainer.n_gpus_per_node): {fewer}"))
        if config.verb == "train":
            rows.append(("KV cache", _kv_cache(config, shape, phases)))
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
    told = ", ".join(
        f"{part.name} {'' if part.is_exact else '~'}{part.num_bytes / GIB:.1f}" for part in large
    )
    share = f", vLLM's share {phase.utilization:g}" if phase.utilization else ""
    return f"{as_gib(phase.least_bytes())} ({told}{share})"


def _trains(trained: Trained) -> str:
    size = f", v {as_gib(trained.vector_bytes)}, bank {as_gib(trained.bank_bytes)}"
    return trained.what + (size if trained.vector_bytes else "")


def _reinforced(config: DictConfig, shape: ModelDims, trained: Trained) -> Rows:
    data, rollout = config.data, config.actor_rollout_ref.rollout
    samples = data.train_batch_size * rollout.n
    longest = data.max_prompt_length + data.max_response_length
    steps = total_steps(config)
    replicas = (
        config.placement.rollout_gpus * rollout.nnodes or num_ranks(config)
    ) // rollout.tensor_model_parallel_size
    each = sync_bytes(config, shape, trained)
    return [
        (
            "sync",
            f"{config.sync.mode}: {as_gib(each)} a step to each of {replicas} rollout "
            f"replica{'' if replicas == 1 else 's'}",
        ),
        (
            "a step",
            f"{data.train_batch_size} prompts x {rollout.n} samples = {samples:,} responses, "
            f"at most {data.max_prompt_length:,} + {data.max_response_length:,} tokens each: at "
            f"most {samples * longest:,} tokens",
        ),
        ("steps", f"{steps:,}, at most {steps * samples * longest:,} tokens of training"),
    ]


def _supervised(config: DictConfig) -> Rows:
    steps = total_steps(config)
    return [
        (
            "steps",
            f"{steps:,} of {config.sft.batch_size} worked answers, at most "
            f"{config.data.max_prompt_length:,} + {config.data.max_response_length:,} tokens each",
        )
    ]


def _on_fewer(config: DictConfig, shape: ModelDims, trained: Trained) -> str:
    """The least memory of a GPU for each smaller number of them on one node."""
    told = []
    for count in (4, 2, 1):
        if count < config.trainer.n_gpus_per_node and config.trainer.nnodes == 1:
            phases = training_phases(config, shape, trained, ranks=count)
            told.append(f"{count} with {as_gib(max(phase.least_bytes() for phase in phases))}")
    return ", ".join(told)


def _kv_cache(config: DictConfig, shape: ModelDims, phases: Sequence[Phase]) -> str:
    """How many samples of full length vLLM holds on the smallest GPU of the list that will do."""
    rollout = config.actor_rollout_ref.rollout
    least = max(phase.least_bytes() for phase in phases)
    size = next((size for _, size in GPUS if NEAR * size * GIB >= least), GPUS[-1][1])
    phase = phases[-1]
    fixed = sum(part.num_bytes for part in phase.share if not part.name.startswith("KV"))
    token = kv_bytes(shape, rollout.dtype, rollout.tensor_model_parallel_size)
    left = max(0.0, phase.utilization * size * GIB - fixed)
    gpus = config.placement.rollout_gpus * rollout.nnodes or num_ranks(config)
    replicas = gpus // rollout.tensor_model_parallel_size
    samples = -(-config.data.train_batch_size * rollout.n // replicas)
    return (
        f"{as_gib(token)} a token; with {size} GiB a GPU {as_gib(left)}, that is "
        f"{left / token / rollout.max_model_len:.0f} samples of {rollout.max_model_len:,} tokens "
        f"at once, of {samples} a replica and step"
    )
