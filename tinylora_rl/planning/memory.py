"""What a GPU has to hold in each phase of a step, from the configuration and the model's shape.

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
from typing import Any

from omegaconf import DictConfig

from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.planning.trained import Trained, dtype_bytes

GIB = 1 << 30
PROCESS_BYTES = int(1.5 * GIB)
LOGITS_COPIES = 3
SENDER_COPIES = 3  # of the largest adapted weight while it is merged: gathered, fp32, rounded


@dataclasses.dataclass(frozen=True)
class Part:
    """Something in memory; `is_exact` where its size is known and not estimated."""

    name: str
    num_bytes: float
    is_exact: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """What is on one GPU at the same time.

    Attributes:
        parts: beside vLLM's share of the memory.
        share: what must fit into that share.
        utilization: the share, of the GPU's memory; 0 where vLLM has none now.
        mend: what makes it smaller.
    """

    name: str
    parts: tuple[Part, ...]
    share: tuple[Part, ...] = ()
    utilization: float = 0.0
    mend: str = ""

    def least_bytes(self, *, exact_only: bool = False) -> float:
        """The smallest GPU that holds it."""
        beside, inside = (
            sum(part.num_bytes for part in parts if part.is_exact or not exact_only)
            for parts in (self.parts, self.share)
        )
        if not self.utilization:
            return beside + inside
        return max(inside / self.utilization, beside / max(1 - self.utilization, 1e-3))


def actor_tokens(config: DictConfig, ranks: int) -> int:
    """T: the most tokens in one pass of each of so many ranks of the actor."""
    actor = config.actor_rollout_ref.actor
    longest = config.data.max_prompt_length + config.data.max_response_length
    is_rl = config.verb == "train"
    batch = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    share = max(1, (batch if is_rl else config.sft.batch_size) // ranks) * longest
    if not actor.use_dynamic_bsz:
        return int(min(share, (actor.ppo_micro_batch_size_per_gpu or 1) * longest))
    return int(min(share, actor.ppo_max_token_len_per_gpu))


def num_ranks(config: DictConfig) -> int:
    """Of the actor, on all nodes."""
    return int(config.trainer.nnodes * config.trainer.n_gpus_per_node)


def has_own_rollout(config: DictConfig) -> bool:
    """Whether the rollout has GPUs of its own."""
    return bool(config.placement.rollout_gpus)


def training_phases(
    config: DictConfig, shape: ModelDims, trained: Trained, *, ranks: int | None = None
) -> list[Phase]:
    """The phases of a step of `train`; of `sft` the update alone.

    With placement=separate `rollout` is the phase of the other GPUs.

    Args:
        ranks: of the actor; None: as many as `config` has.
    """
    ranks = ranks or num_ranks(config)
    rollout, fsdp = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor.fsdp_config
    actor = _actor(config, shape, trained, ranks)
    resident = () if fsdp.param_offload else actor
    update = (*actor, *_gathered(config, shape), *_activations(config, shape, ranks))
    tokens_mend = "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, or add GPUs"
    process = Part("a process of torch", PROCESS_BYTES, is_exact=False)
    if config.verb == "sft":
        return [Phase(name="update", parts=(*update, process), mend=tokens_mend)]
    share = _vllm_share(shape, rollout, rollout.dtype)
    kept = _kept_by_vllm(config, shape, trained)
    rollout_mend = (
        "change actor_rollout_ref.rollout.gpu_memory_utilization, or raise tensor_model_parallel_"
        "size"
    )
    if has_own_rollout(config):
        return [
            Phase(name="update", parts=(*update, process), mend=tokens_mend),
            Phase(
                name="rollout",
                parts=(*kept, process),
                share=share,
                utilization=rollout.gpu_memory_utilization,
                mend=rollout_mend,
            ),
        ]
    two = Part("two processes of torch", 2 * PROCESS_BYTES, is_exact=False)
    weights, awake = share[0], share
    if rollout.free_cache_engine:
        awake = ()
    largest = max(num_out * num_in for num_out, num_in in shape.linears.values())
    sending = (
        weights,
        Part("bucket", int(rollout.checkpoint_engine.update_weights_bucket_megabytes) << 20),
        Part("weight being merged", SENDER_COPIES * 4 * largest, is_exact=False),
    )
    return [
        Phase(name="update", parts=(*update, *awake, *kept, two), mend=tokens_mend),
        Phase(
            name="sync",
            parts=(*actor, *sending, *kept, two),
            mend="lower rollout.checkpoint_engine.update_weights_bucket_megabytes, or add GPUs",
        ),
        Phase(
            name="rollout",
            parts=(*resident, *kept, two),
            share=share,
            utilization=rollout.gpu_memory_utilization,
            mend=rollout_mend,
        ),
    ]


def evaluation_phases(config: DictConfig, shape: ModelDims, max_model_len: int) -> list[Phase]:
    """The one phase of `evaluate`: vLLM's."""
    options: Any = dict(config.engine.options)
    options.setdefault("max_model_len", max_model_len)
    options.setdefault("tensor_model_parallel_size", options.get("tensor_parallel_size", 1))
    return [
        Phase(
            name="generation",
            parts=(Part("a process of torch", PROCESS_BYTES, is_exact=False),),
            share=_vllm_share(shape, options, options["dtype"]),
            utilization=options.get("gpu_memory_utilization", 0.9),
            mend="change engine.options.gpu_memory_utilization, or raise tensor_parallel_size",
        )
    ]


def kv_bytes(shape: ModelDims, dtype: str, tensor_parallel_size: int) -> float:
    """Of keys and values a token, on one GPU; heads are copied where there are fewer than GPUs."""
    shards = min(tensor_parallel_size, shape.kv_heads)
    return shape.kv_numbers * dtype_bytes(dtype) / shards


def _actor(config: DictConfig, shape: ModelDims, trained: Trained, ranks: int) -> tuple[Part, ...]:
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    shards = fsdp.fsdp_size if 0 < fsdp.fsdp_size < ranks else ranks
    weights = shape.num_parameters * dtype_bytes(fsdp.model_dtype)
    parts = [Part(f"actor, 1/{shards}", weights / shards)]
    if trained.is_whole:  # gradient, and Adam's two moments, in the weights' dtype
        parts.append(Part("gradient and Adam's state", 3 * weights / shards))
    elif not trained.bank_bytes:
        parts.append(Part("LoRA and its Adam's state", 16 * trained.num_parameters / shards))
    if trained.bank_bytes:
        parts.append(Part("bank", trained.bank_bytes))
    return tuple(parts)


def _gathered(config: DictConfig, shape: ModelDims) -> tuple[Part, ...]:
    """What FSDP gathers for a pass: the model, or the embeddings and two blocks of it."""
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    number = _compute_bytes(config)
    if not fsdp.reshard_after_forward:
        return (Part("weights gathered for a step", shape.num_parameters * number),)
    numbers = shape.embedding_numbers + min(2, shape.blocks) * shape.block_numbers
    return (Part("weights gathered for a block", numbers * number),)


def _activations(config: DictConfig, shape: ModelDims, ranks: int) -> tuple[Part, ...]:
    tokens, number = actor_tokens(config, ranks), _compute_bytes(config)
    inside = (10 * shape.hidden + 4 * shape.intermediate) * number * tokens
    logits = Part("logits", LOGITS_COPIES * shape.vocab * number * tokens, is_exact=False)
    if not config.actor_rollout_ref.model.enable_gradient_checkpointing:
        return (Part("activations", inside * shape.blocks, is_exact=False), logits)
    inputs = shape.hidden * shape.blocks * number * tokens
    return (
        Part("inputs of the blocks", inputs, is_exact=False),
        Part("inside of a block", inside, is_exact=False),
        logits,
    )


def _compute_bytes(config: DictConfig) -> int:
    """Of a number while the actor computes: verl's mixed precision, bf16 unless stated."""
    precision = config.actor_rollout_ref.actor.fsdp_config.get("mixed_precision") or {}
    return dtype_bytes(precision.get("param_dtype", "bf16"))


def _vllm_share(shape: ModelDims, options: Any, dtype: str) -> tuple[Part, ...]:
    tensor_parallel, number = options["tensor_model_parallel_size"], dtype_bytes(dtype)
    inside = (10 * shape.hidden + 4 * shape.intermediate) * number
    workspace = options["max_num_batched_tokens"] * inside / tensor_parallel
    workspace += options["max_num_seqs"] * shape.vocab * 4 * 2
    return (
        Part("vLLM's weights", shape.num_parameters * number / tensor_parallel),
        Part(
            "KV cache of one sample",
            options["max_model_len"] * kv_bytes(shape, dtype, tensor_parallel),
        ),
        Part("vLLM's workspace", workspace, is_exact=False),
    )


def _kept_by_vllm(config: DictConfig, shape: ModelDims, trained: Trained) -> tuple[Part, ...]:
    """What a vLLM worker keeps beside its own share, asleep or awake, to re-merge from v."""
    if not trained.bank_bytes or config.sync.mode != "vector":
        return ()
    rollout = config.actor_rollout_ref.rollout
    number, tensor_parallel = dtype_bytes(rollout.dtype), rollout.tensor_model_parallel_size
    bank = Part("vLLM's bank", trained.bank_bytes)
    if config.sync.pristine != "device":
        return (bank,)
    return (Part("pristine copy", trained.adapted_numbers * number / tensor_parallel), bank)
