"""Counts what a GPU has to hold in each phase of a step, from experiment and model dimensions.

Exact are weights, optimiser, bank, pristine copy, buffers and the least KV cache. Estimated, to the
safe side and never measured on a GPU, are

    inside of a block    (10 hidden + 4 intermediate) numbers a token, kept for every block without
                         gradient checkpointing, for one block with it;
    inputs of the blocks hidden numbers a token and block, with gradient checkpointing;
    logits               3 copies of vocabulary numbers a token: themselves, their softmax, a
                         product (verl's entropy, or the gradient in its place);
    vLLM's workspace     a block's inside for max_num_batched_tokens, and two fp32 copies of the
                         logits of max_num_seqs;
    a process            1.5 GiB: CUDA context, NCCL's buffers, CUDA graphs, the allocator's slack;

with an attention that keeps no matrix of scores. T, the tokens that one pass of the actor takes, is
ppo_max_token_len_per_gpu, or a rank's whole share of a step where that is less.

Phases: `update` (log-probs and gradients, vLLM asleep), `sync` (vLLM's weights awake, its KV cache
not), `rollout` (vLLM's share of the GPU, the actor beside it).
"""

from __future__ import annotations

import dataclasses

from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.methods import Size
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.settings.experiment import Experiment

GIB = 1 << 30
PROCESS_BYTES = int(1.5 * GIB)
LOGITS_COPIES = 3
SENDER_COPIES = 3  # of the largest adapted weight while it is merged: gathered, fp32, rounded
DTYPE_BYTES = {"fp32": 4, "float32": 4, "float": 4}  # every other dtype here takes two


def dtype_bytes(name: str | None) -> int:
    """Bytes of one number; verl trains in fp32 where no dtype is stated."""
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
        """The smallest GPU that holds it."""
        beside, inside = (
            sum(part.num_bytes for part in parts if part.is_exact or not exact_only)
            for parts in (self.parts, self.share)
        )
        if not self.utilization:
            return beside + inside
        return max(inside / self.utilization, beside / max(1 - self.utilization, 1e-3))


def actor_tokens(experiment: Experiment, ranks: int) -> int:
    """T: the most tokens in one pass of each of so many ranks of the actor."""
    actor = experiment.actor
    longest = experiment.batch.sample_tokens
    is_rl = experiment.is_rl
    batch = experiment.batch.prompts * experiment.batch.samples
    share = max(1, (batch if is_rl else experiment.update_rows) // ranks) * longest
    if not actor.dynamic_batches:
        return min(share, (actor.micro_batch or 1) * longest)
    return min(share, actor.max_tokens)


def training_phases(
    experiment: Experiment, dims: ModelDims, size: Size, *, ranks: int | None = None
) -> list[Phase]:
    """The phases of a step of `train`; of `sft` the update alone.

    With placement=separate `rollout` is the phase of the other GPUs.

    Args:
        ranks: of the actor; None: as many as the experiment has.
    """
    ranks = ranks or experiment.hardware.num_ranks
    rollout, fsdp = experiment.rollout, experiment.actor
    actor = _actor(experiment, dims, size, ranks)
    resident = () if fsdp.param_offload else actor
    update = (*actor, *_gathered(experiment, dims), *_activations(experiment, dims, ranks))
    tokens_fix = "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, or add GPUs"
    process = Part("a process of torch", PROCESS_BYTES, is_exact=False)
    if not experiment.is_rl:
        return [Phase(name="update", parts=(*update, process), fix=tokens_fix)]
    share = _vllm_share(
        dims,
        dtype=rollout.dtype,
        tensor_parallel=rollout.tensor_parallel_size,
        max_model_len=rollout.max_model_len,
        max_num_seqs=rollout.max_num_seqs,
        max_num_batched_tokens=rollout.max_num_batched_tokens,
    )
    kept = _kept_by_vllm(experiment, dims, size)
    rollout_fix = (
        "change actor_rollout_ref.rollout.gpu_memory_utilization, or raise tensor_model_parallel_"
        "size"
    )
    if experiment.hardware.rollout_per_node:
        return [
            Phase(name="update", parts=(*update, process), fix=tokens_fix),
            Phase(
                name="rollout",
                parts=(*kept, process),
                share=share,
                utilization=rollout.gpu_memory_utilization,
                fix=rollout_fix,
            ),
        ]
    two = Part("two processes of torch", 2 * PROCESS_BYTES, is_exact=False)
    weights, awake = share[0], share
    if rollout.free_cache_engine:
        awake = ()
    largest = max(num_out * num_in for num_out, num_in in dims.linears.values())
    sending = (
        weights,
        Part("bucket", rollout.bucket_mb << 20),
        Part("weight being merged", SENDER_COPIES * 4 * largest, is_exact=False),
    )
    return [
        Phase(name="update", parts=(*update, *awake, *kept, two), fix=tokens_fix),
        Phase(
            name="sync",
            parts=(*actor, *sending, *kept, two),
            fix="lower rollout.checkpoint_engine.update_weights_bucket_megabytes, or add GPUs",
        ),
        Phase(
            name="rollout",
            parts=(*resident, *kept, two),
            share=share,
            utilization=rollout.gpu_memory_utilization,
            fix=rollout_fix,
        ),
    ]


def evaluation_phases(evaluation: Evaluation, dims: ModelDims, max_model_len: int) -> list[Phase]:
    """Returns the one phase of `evaluate`: vLLM's."""
    options = evaluation.engine.options
    return [
        Phase(
            name="generation",
            parts=(Part("a process of torch", PROCESS_BYTES, is_exact=False),),
            share=_vllm_share(
                dims,
                dtype=evaluation.engine.dtype,
                tensor_parallel=evaluation.engine.tensor_parallel_size,
                max_model_len=options.get("max_model_len", max_model_len),
                max_num_seqs=options["max_num_seqs"],
                max_num_batched_tokens=options["max_num_batched_tokens"],
            ),
            utilization=options.get("gpu_memory_utilization", 0.9),
            fix="change device.engine.options.gpu_memory_utilization, or raise "
            "tensor_parallel_size",
        )
    ]


def sync_bytes(experiment: Experiment, dims: ModelDims, size: Size) -> int:
    """Bytes to each rollout replica in one sync (`sync/bytes` counts all of them)."""
    number = dtype_bytes(experiment.rollout.dtype)
    if not size.vector_bytes:
        return dims.num_parameters * number  # verl sends whole models
    if experiment.sync.mode == "vector":
        return size.vector_bytes
    if experiment.sync.mode == "factors":
        return size.factor_numbers * number
    whole = experiment.sync.sleep_level == 2
    return (dims.num_parameters if whole else size.adapted_numbers) * number


def kv_bytes(dims: ModelDims, dtype: str, tensor_parallel_size: int) -> float:
    """Of keys and values a token, on one GPU; heads are copied where there are fewer than GPUs."""
    shards = min(tensor_parallel_size, dims.kv_heads)
    return dims.kv_numbers * dtype_bytes(dtype) / shards


def _actor(experiment: Experiment, dims: ModelDims, size: Size, ranks: int) -> tuple[Part, ...]:
    fsdp = experiment.actor
    shards = fsdp.fsdp_size if 0 < fsdp.fsdp_size < ranks else ranks
    weights = dims.num_parameters * dtype_bytes(fsdp.model_dtype)
    parts = [Part(f"actor, 1/{shards}", weights / shards)]
    if size.is_whole:  # gradient, and Adam's two moments, in the weights' dtype
        parts.append(Part("gradient and Adam's state", 3 * weights / shards))
    elif not size.bank_bytes:
        parts.append(Part("LoRA and its Adam's state", 16 * size.num_parameters / shards))
    if size.bank_bytes:
        parts.append(Part("bank", size.bank_bytes))
    return tuple(parts)


def _gathered(experiment: Experiment, dims: ModelDims) -> tuple[Part, ...]:
    """Counts what FSDP gathers for a pass: the model, or the embeddings and two blocks of it."""
    fsdp = experiment.actor
    number = _compute_bytes(experiment)
    if not fsdp.reshard_after_forward:
        return (Part("weights gathered for a step", dims.num_parameters * number),)
    numbers = dims.embedding_numbers + min(2, dims.blocks) * dims.block_numbers
    return (Part("weights gathered for a block", numbers * number),)


def _activations(experiment: Experiment, dims: ModelDims, ranks: int) -> tuple[Part, ...]:
    tokens, number = actor_tokens(experiment, ranks), _compute_bytes(experiment)
    inside = (10 * dims.hidden + 4 * dims.intermediate) * number * tokens
    logits = Part("logits", LOGITS_COPIES * dims.vocab * number * tokens, is_exact=False)
    if not experiment.actor.gradient_checkpointing:
        return (Part("activations", inside * dims.blocks, is_exact=False), logits)
    inputs = dims.hidden * dims.blocks * number * tokens
    return (
        Part("inputs of the blocks", inputs, is_exact=False),
        Part("inside of a block", inside, is_exact=False),
        logits,
    )


def _compute_bytes(experiment: Experiment) -> int:
    """Of a number while the actor computes: verl's mixed precision, bf16 unless stated."""
    return dtype_bytes(experiment.actor.compute_dtype or "bf16")


def _vllm_share(
    dims: ModelDims,
    *,
    dtype: str,
    tensor_parallel: int,
    max_model_len: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
) -> tuple[Part, ...]:
    number = dtype_bytes(dtype)
    inside = (10 * dims.hidden + 4 * dims.intermediate) * number
    workspace = max_num_batched_tokens * inside / tensor_parallel
    workspace += max_num_seqs * dims.vocab * 4 * 2
    return (
        Part("vLLM's weights", dims.num_parameters * number / tensor_parallel),
        Part("KV cache of one sample", max_model_len * kv_bytes(dims, dtype, tensor_parallel)),
        Part("vLLM's workspace", workspace, is_exact=False),
    )


def _kept_by_vllm(experiment: Experiment, dims: ModelDims, size: Size) -> tuple[Part, ...]:
    """Counts what a vLLM worker keeps beside its own share, asleep or awake, to re-merge from v."""
    if not size.bank_bytes or experiment.sync.mode != "vector":
        return ()
    rollout = experiment.rollout
    number, tensor_parallel = dtype_bytes(rollout.dtype), rollout.tensor_parallel_size
    bank = Part("vLLM's bank", size.bank_bytes)
    if experiment.sync.pristine != "device":
        return (bank,)
    return (Part("pristine copy", size.adapted_numbers * number / tensor_parallel), bank)
