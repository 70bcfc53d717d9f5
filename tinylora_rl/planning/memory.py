"""Estimates the peak memory of a GPU in each phase of a step, and compares it with the GPUs here.

Exact are weights, optimiser, bank, pristine copy, bucket and the least KV cache. Estimated are

    activations          (10 hidden + 4 intermediate) numbers a token inside of a block, kept for
                         every block; with gradient checkpointing for one, and hidden numbers a
                         token and block, its inputs;
    logits               3 copies of vocabulary numbers a token: themselves, their softmax, a
                         product (verl's entropy, or the gradient in its place);
    vLLM's workspace     a block's inside for max_num_batched_tokens, and two fp32 copies of the
                         logits of max_num_seqs;
    a process            1.5 GiB: CUDA context, NCCL's buffers, CUDA graphs, the allocator's slack;

with an attention that keeps no matrix of scores.

Phases: `update` (log-probs and gradients, vLLM asleep), `sync` (vLLM's weights awake, its KV cache
not), `rollout` (vLLM's share of the GPU, the actor beside it).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tinylora_rl.base_model import ModelDims
from tinylora_rl.methods import Size
from tinylora_rl.planning.devices import Gpu
from tinylora_rl.planning.finding import Finding, Verdict, as_gib, machine_failed, passed, warned
from tinylora_rl.settings.evaluation import Evaluation
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
PROCESS_BYTES = int(1.5 * GIB)
LOGITS_COPIES = 3
SENDER_COPIES = 3  # of the largest adapted weight while it is merged: gathered, fp32, rounded
DTYPE_BYTES = {"fp32": 4, "float32": 4, "float": 4}  # every other dtype here takes two


def dtype_bytes(name: str | None) -> int:
    """Returns the bytes of one number; verl trains in fp32 where no dtype is stated."""
    return DTYPE_BYTES.get(name or "fp32", 2)


@dataclasses.dataclass(frozen=True)
class Part:
    """Something in memory; `is_exact` where its size is known and not estimated."""

    name: str
    num_bytes: float
    is_exact: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """The contents of one GPU at one time.

    Attributes:
        parts: beside vLLM's share of the memory.
        share: what must fit into that share.
        utilization: the share, of the GPU's memory; 0 where vLLM has none now.
        fix: what makes it smaller.
    """

    name: str
    parts: tuple[Part, ...]
    share: tuple[Part, ...] = ()
    utilization: float = 0.0
    fix: str = ""

    def least_bytes(self, *, exact_only: bool = False) -> float:
        """Returns the memory of the smallest GPU that holds it."""
        beside, inside = (
            sum(part.num_bytes for part in parts if part.is_exact or not exact_only)
            for parts in (self.parts, self.share)
        )
        if not self.utilization:
            return beside + inside
        return max(inside / self.utilization, beside / max(1 - self.utilization, 1e-3))

    def __str__(self) -> str:
        large = [part for part in (*self.parts, *self.share) if part.num_bytes >= GIB / 20]
        named = ", ".join(
            f"{part.name} {'' if part.is_exact else '~'}{part.num_bytes / GIB:.1f}"
            for part in large
        )
        share = f", vLLM's share {self.utilization:g}" if self.utilization else ""
        return f"{as_gib(self.least_bytes())} ({named}{share})"


def training_phases(
    experiment: Experiment, dims: ModelDims, size: Size, *, ranks: int | None = None
) -> list[Phase]:
    """Returns the phases of a step of `train`; of `sft` the update alone.

    With placement=separate `rollout` is the phase of the other GPUs.

    Args:
        ranks: of the actor; None: as many as the experiment has.
    """
    ranks = ranks or experiment.hardware.num_ranks
    rollout = experiment.rollout
    actor = _actor(experiment, dims, size, ranks)
    update = (*actor, *_pass(experiment, dims, ranks))
    update_fix = "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, or add GPUs"
    if not experiment.is_rl:
        return [Phase(name="update", parts=(*update, _processes(1)), fix=update_fix)]
    share = _vllm_share(dims, rollout.tensor_parallel_size, vars(rollout))
    kept = _kept_by_vllm(experiment, dims, size)
    is_apart = bool(experiment.hardware.rollout_per_node)
    processes = _processes(1 if is_apart else 2)
    beside = () if is_apart or experiment.actor.param_offload else actor
    generation = Phase(
        name="rollout",
        parts=(*beside, *kept, processes),
        share=share,
        utilization=rollout.gpu_memory_utilization,
        fix="change actor_rollout_ref.rollout.gpu_memory_utilization, or raise "
        "tensor_model_parallel_size",
    )
    if is_apart:
        return [Phase(name="update", parts=(*update, processes), fix=update_fix), generation]
    awake = () if rollout.free_cache_engine else share
    largest = max(num_out * num_in for num_out, num_in in dims.linears.values())
    sending = (
        share[0],  # the weights
        Part("bucket", rollout.bucket_mb << 20),
        Part("weight being merged", SENDER_COPIES * 4 * largest, is_exact=False),
    )
    return [
        Phase(name="update", parts=(*update, *awake, *kept, processes), fix=update_fix),
        Phase(
            name="sync",
            parts=(*actor, *sending, *kept, processes),
            fix="lower rollout.checkpoint_engine.update_weights_bucket_megabytes, or add GPUs",
        ),
        generation,
    ]


def evaluation_phases(evaluation: Evaluation, dims: ModelDims, max_model_len: int) -> list[Phase]:
    """Returns the one phase of `evaluate`: vLLM's."""
    engine = evaluation.engine
    options = {"max_model_len": max_model_len, **engine.options}
    return [
        Phase(
            name="generation",
            parts=(_processes(1),),
            share=_vllm_share(dims, engine.tensor_parallel_size, options),
            utilization=options.get("gpu_memory_utilization", 0.9),
            fix="change device.engine.options.gpu_memory_utilization, or raise "
            "tensor_parallel_size",
        )
    ]


def actor_tokens(experiment: Experiment, ranks: int) -> int:
    """Returns the most tokens in one pass of each of so many ranks: at most its share of a step."""
    actor, batch = experiment.actor, experiment.batch
    samples = batch.prompts * batch.samples if experiment.is_rl else experiment.update_rows
    share = max(1, samples // ranks) * batch.sample_tokens
    if not actor.dynamic_batches:
        return min(share, (actor.micro_batch or 1) * batch.sample_tokens)
    return min(share, actor.max_tokens)


def sync_bytes(experiment: Experiment, dims: ModelDims, size: Size) -> int:
    """Returns the bytes to each rollout replica in one sync (`sync/bytes` counts all of them)."""
    number = dtype_bytes(experiment.rollout.dtype)
    if not size.vector_bytes:
        return dims.num_parameters * number  # verl sends whole models
    if experiment.sync.mode == "vector":
        return size.vector_bytes
    if experiment.sync.mode == "factors":
        return size.factor_numbers * number
    whole = experiment.sync.sleep_level == 2
    return (dims.num_parameters if whole else size.adapted_numbers) * number


# -- compared with GPUs ----------------------------------------------------------------------------


def enough(phases: Sequence[Phase]) -> str:
    """Names the smallest memory that holds every phase, and GPUs that have it."""
    least = max(phase.least_bytes() for phase in phases)
    holding = [name for name, size in GPUS if NEAR * size * GIB >= least]
    named = f" ({', '.join(holding)})" if holding else " (no GPU we know: use more of them)"
    return f"{as_gib(least)} of memory or more each{named}"


def check_gpu_memory(phases: Sequence[Phase], gpus: Sequence[Gpu]) -> Finding:
    """Checks that the smallest of `gpus` holds every phase.

    It fails where the parts whose size is exact do not fit; where estimates decide it warns.
    """
    size = min(gpu.total_bytes for gpu in gpus)
    worst = max(phases, key=lambda phase: phase.least_bytes())
    certain = max(phases, key=lambda phase: phase.least_bytes(exact_only=True))
    if certain.least_bytes(exact_only=True) > size:
        taken = f"{certain.name} takes {certain}, a GPU here has {as_gib(size)}"
        return machine_failed("GPU memory", f"{taken}; {certain.fix}")
    detail = f"{as_gib(size)} a GPU, {worst.name} takes about {worst}"
    if worst.least_bytes() > NEAR * size:
        return warned("GPU memory", f"{detail}; {worst.fix}")
    in_use = max(gpu.total_bytes - gpu.free_bytes for gpu in gpus)
    if worst.least_bytes() > size - in_use:
        return warned("GPU memory", f"{detail}, and others hold {as_gib(in_use)}; free that first")
    return passed("GPU memory", detail)


def with_needs(finding: Finding, phases: Sequence[Phase], seen: str, instead: str) -> Finding:
    """Adds to a finding of missing GPUs what is seen here (`devices.seen`) and what is needed.

    Args:
        instead: overrides that take the same path on this machine.
    """
    if finding.subject != "GPUs" or finding.verdict is not Verdict.FAIL:
        return finding
    detail = (
        f"{finding.detail} ({seen}). This run needs GPUs with {enough(phases)}; {instead} walks "
        "its whole path without one, with a model of under 1 M parameters"
    )
    return dataclasses.replace(finding, detail=detail)


# -- parts -----------------------------------------------------------------------------------------


def _processes(count: int) -> Part:
    name = "a process of torch" if count == 1 else "two processes of torch"
    return Part(name, count * PROCESS_BYTES, is_exact=False)


def _actor(experiment: Experiment, dims: ModelDims, size: Size, ranks: int) -> tuple[Part, ...]:
    fsdp = experiment.actor
    shards = fsdp.fsdp_size if 0 < fsdp.fsdp_size < ranks else ranks
    weights = dims.num_parameters * dtype_bytes(fsdp.model_dtype) / shards
    if size.is_whole:  # gradient, and Adam's two moments, in the weights' dtype
        trained = Part("gradient and Adam's state", 3 * weights)
    elif size.bank_bytes:
        trained = Part("bank", size.bank_bytes)
    else:
        trained = Part("LoRA and its Adam's state", 16 * size.num_parameters / shards)
    return Part(f"actor, 1/{shards}", weights), trained


def _pass(experiment: Experiment, dims: ModelDims, ranks: int) -> tuple[Part, ...]:
    """Counts a pass of the actor in its compute dtype (bf16 unless stated).

    FSDP gathers the whole model for a step, or the embeddings and two blocks at a time.
    """
    number = dtype_bytes(experiment.actor.compute_dtype or "bf16")
    tokens = actor_tokens(experiment, ranks)
    inside, blocks = 10 * dims.hidden + 4 * dims.intermediate, dims.blocks
    kept = inside * blocks
    if experiment.actor.gradient_checkpointing:
        kept = inside + dims.hidden * blocks
    if experiment.actor.reshard_after_forward:
        numbers = dims.embedding_numbers + min(2, blocks) * dims.block_numbers
        gathered = Part("weights gathered for a block", numbers * number)
    else:
        gathered = Part("weights gathered for a step", dims.num_parameters * number)
    return (
        gathered,
        Part("activations", kept * number * tokens, is_exact=False),
        Part("logits", LOGITS_COPIES * dims.vocab * number * tokens, is_exact=False),
    )


def _vllm_share(
    dims: ModelDims, tensor_parallel: int, options: Mapping[str, Any]
) -> tuple[Part, ...]:
    """Counts a worker's share; `options` are named as vLLM's."""
    number = dtype_bytes(options["dtype"])
    inside = (10 * dims.hidden + 4 * dims.intermediate) * number
    workspace = options["max_num_batched_tokens"] * inside / tensor_parallel
    workspace += options["max_num_seqs"] * dims.vocab * 4 * 2
    # heads are copied where there are fewer than GPUs
    kv_bytes = dims.kv_numbers * number / min(tensor_parallel, dims.kv_heads)
    return (
        Part("vLLM's weights", dims.num_parameters * number / tensor_parallel),
        Part("KV cache of one sample", options["max_model_len"] * kv_bytes),
        Part("vLLM's workspace", workspace, is_exact=False),
    )


def _kept_by_vllm(experiment: Experiment, dims: ModelDims, size: Size) -> tuple[Part, ...]:
    """Counts what a vLLM worker keeps beside its own share, asleep or awake, to re-merge from v."""
    if not size.bank_bytes or experiment.sync.mode != "vector":
        return ()
    bank = Part("vLLM's bank", size.bank_bytes)
    if experiment.sync.pristine != "device":
        return (bank,)
    rollout = experiment.rollout
    copy = size.adapted_numbers * dtype_bytes(rollout.dtype) / rollout.tensor_parallel_size
    return Part("pristine copy", copy), bank
