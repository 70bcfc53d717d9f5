"""What a run takes beside its GPUs: host memory of a node, shared memory, disk. Estimates.

The constants are of runs of the embedded recipe on a CPU, whose processes held 6.3 GB together at
their peak; those of GPU nodes are assumptions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.adapter.bank_cache import default_cache_dir
from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.planning.cost import total_steps
from tinylora_rl.planning.memory import has_own_rollout, training_phases
from tinylora_rl.planning.table import as_gib
from tinylora_rl.planning.trained import Trained, dtype_bytes, sync_bytes

GIB = 1 << 30
DRIVER_BYTES = 3 * GIB  # driver, Ray, agent loops, grading
RANK_BYTES = {"cpu": 2 * GIB, "cuda": 6 * GIB}  # the processes of an actor and of its vLLM
STORAGE_UNIT_BYTES = 475 << 20  # each process of TransferQueue
CHECKPOINT_BYTES = 48 << 10  # v, generators, schedule and position in the data, in disk blocks
NUMBER_STATE_BYTES = 12  # v and Adam's moments, fp32
BYTES_PER_TOKEN = 4  # of a response as text
VERDICTS_BYTES = 1 << 10  # of a validated response, beside its text
NCCL_SHM_BYTES = GIB  # of ranks that share a node


def host_memory(config: DictConfig, shape: ModelDims, trained: Trained) -> tuple[float, str]:
    """(bytes on one node, their parts in words) of `train` or `sft`."""
    device, per_node = str(config.trainer.device), int(config.trainer.n_gpus_per_node)
    is_rl = config.verb == "train"
    rollout = config.actor_rollout_ref.rollout
    number = dtype_bytes(config.actor_rollout_ref.actor.fsdp_config.model_dtype)
    weights = shape.num_parameters * number
    parts: dict[str, float] = {"processes": DRIVER_BYTES + per_node * RANK_BYTES[device]}
    if is_rl:
        units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
        parts["TransferQueue"] = units * STORAGE_UNIT_BYTES
    # verl loads the model on every rank where embeddings are tied, else on one
    loading = weights * (per_node if shape.is_tied else 1)
    if device == "cpu":
        phases = training_phases(config, shape, trained)
        parts["actor"] = per_node * sum(
            part.num_bytes for part in phases[0].parts if "process" not in part.name
        )
        if is_rl:
            environment = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
            cache = float(environment.get("VLLM_CPU_KVCACHE_SPACE", 4)) * GIB
            kept = shape.num_parameters * dtype_bytes(rollout.dtype) + cache
            parts["vLLM"] = per_node * kept
        return sum(parts.values()), _told(parts)
    asleep = 0.0
    if is_rl and rollout.free_cache_engine and config.sync.sleep_level == 1:
        asleep = per_node * shape.num_parameters * dtype_bytes(rollout.dtype)
        asleep /= rollout.tensor_model_parallel_size
    parts["loading the model"] = loading
    if asleep and not has_own_rollout(config):
        parts["vLLM's weights asleep"] = asleep
    is_kept = trained.bank_bytes and config.sync.mode == "vector" and is_rl
    if is_kept and config.sync.pristine == "host":
        copy = trained.adapted_numbers * dtype_bytes(rollout.dtype)
        parts["pristine copies"] = per_node * copy / rollout.tensor_model_parallel_size
    if trained.is_whole and config.actor_rollout_ref.actor.use_kl_loss:
        parts["reference model"] = shape.num_parameters * 2
    return sum(parts.values()), _told(parts)


def shared_memory(config: DictConfig, shape: ModelDims, trained: Trained) -> tuple[int, str]:
    """(bytes in /dev/shm of one node, what for) of `train`."""
    per_node = int(config.trainer.n_gpus_per_node)
    if config.trainer.device != "cpu":
        return (NCCL_SHM_BYTES if per_node > 1 else 64 << 20), "NCCL and Ray"
    rollout = config.actor_rollout_ref.rollout
    bucket = int(rollout.checkpoint_engine.update_weights_bucket_megabytes) << 20
    travelling = per_node * min(bucket, sync_bytes(config, shape, trained))
    store = OmegaConf.select(config, "ray_kwargs.ray_init.object_store_memory") or 0
    return int(travelling + store), "weights that travel and Ray's objects"


def disk(
    config: DictConfig, shape: ModelDims, trained: Trained, *, has_model: bool
) -> dict[Path, tuple[float, str]]:
    """{folder: (bytes, what for)} of `train` or `sft`."""
    steps = total_steps(config)
    is_rl = config.verb == "train"
    often = config.trainer.save_freq if is_rl else config.sft.save_freq
    keep = config.trainer.max_actor_ckpt_to_keep if is_rl else config.sft.max_checkpoints
    count = -(-steps // often) if often and often > 0 else 1
    # verl writes the new one before it removes the oldest
    count = min(count, keep + 1) if keep else count
    if trained.bank_bytes:
        each: float = CHECKPOINT_BYTES + NUMBER_STATE_BYTES * trained.num_parameters
    else:  # verl's own: the model, and the optimiser's state of what is trained
        number = dtype_bytes(config.actor_rollout_ref.actor.fsdp_config.model_dtype)
        each = shape.num_parameters * number + 2 * number * trained.num_parameters
    validations = 1 + (steps // config.trainer.test_freq if is_rl and _validates(config) else 1)
    rows = (config.task.eval_rows or 1_500) * (1 + len(config.task.eval_benchmarks))
    draws = config.task.eval_samples + bool(config.task.eval_greedy)
    text = config.data.max_response_length * BYTES_PER_TOKEN + VERDICTS_BYTES
    samples = validations * rows * draws * text
    needs = {
        Path(config.run.dir): (
            count * each + samples,
            f"{count} checkpoints of {as_gib(each)} and at most {as_gib(samples)} of samples",
        )
    }
    if trained.bank_bytes:
        folder = Path(config.run.bank_cache_dir or default_cache_dir())
        needs[folder] = (trained.bank_bytes, "the bank")
    if not has_model:
        needs[hub_cache()] = (2.0 * shape.num_parameters, "the base model's files")
    return needs


def hub_cache() -> Path:
    """Where the hub's files are kept."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _validates(config: Any) -> bool:
    return bool(config.trainer.test_freq > 0)


def _told(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {as_gib(num_bytes)}" for name, num_bytes in parts.items())
