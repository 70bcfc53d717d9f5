"""Counts what a run takes beside its GPUs: host memory of a node, shared memory, disk. Estimates.

The constants are of runs of the embedded recipe on a CPU, whose processes held 6.3 GB together at
their peak; those of GPU nodes are assumptions.
"""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.adapter.bank_cache import default_cache_dir
from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.methods import Size
from tinylora_rl.planning.cost import planned_steps
from tinylora_rl.planning.memory import dtype_bytes, sync_bytes, training_phases
from tinylora_rl.planning.table import as_gib
from tinylora_rl.settings.experiment import Experiment

GIB = 1 << 30
DRIVER_BYTES = 3 * GIB  # driver, Ray, agent loops, grading
RANK_BYTES = {"cpu": 2 * GIB, "cuda": 6 * GIB}  # the processes of an actor and of its vLLM
STORAGE_UNIT_BYTES = 475 << 20  # each process of TransferQueue
CHECKPOINT_BYTES = 48 << 10  # v, generators, schedule and position in the data, in disk blocks
NUMBER_STATE_BYTES = 12  # v and Adam's moments, fp32
BYTES_PER_TOKEN = 4  # of a response as text
VERDICTS_BYTES = 1 << 10  # of a validated response, beside its text
NCCL_SHM_BYTES = GIB  # of ranks that share a node


def host_memory(experiment: Experiment, dims: ModelDims, size: Size) -> tuple[float, str]:
    """Returns (bytes on one node, their parts in words) of `train` or `sft`."""
    device, per_node = experiment.hardware.kind, experiment.hardware.per_node
    is_rl = experiment.is_rl
    rollout = experiment.rollout
    number = dtype_bytes(experiment.actor.model_dtype)
    weights = dims.num_parameters * number
    parts: dict[str, float] = {"processes": DRIVER_BYTES + per_node * RANK_BYTES[device]}
    if is_rl:
        units = experiment.ray.storage_units
        parts["TransferQueue"] = units * STORAGE_UNIT_BYTES
    # verl loads the model on every rank where embeddings are tied, else on one
    loading = weights * (per_node if dims.is_tied else 1)
    if device == "cpu":
        phases = training_phases(experiment, dims, size)
        parts["actor"] = per_node * sum(
            part.num_bytes for part in phases[0].parts if "process" not in part.name
        )
        if is_rl:
            cache = float(experiment.ray.env_vars.get("VLLM_CPU_KVCACHE_SPACE", 4)) * GIB
            kept = dims.num_parameters * dtype_bytes(rollout.dtype) + cache
            parts["vLLM"] = per_node * kept
        return sum(parts.values()), _in_words(parts)
    asleep = 0.0
    if is_rl and rollout.free_cache_engine and experiment.sync.sleep_level == 1:
        asleep = per_node * dims.num_parameters * dtype_bytes(rollout.dtype)
        asleep /= rollout.tensor_parallel_size
    parts["loading the model"] = loading
    if asleep and not bool(experiment.hardware.rollout_per_node):
        parts["vLLM's weights asleep"] = asleep
    is_kept = size.bank_bytes and experiment.sync.mode == "vector" and is_rl
    if is_kept and experiment.sync.pristine == "host":
        copy = size.adapted_numbers * dtype_bytes(rollout.dtype)
        parts["pristine copies"] = per_node * copy / rollout.tensor_parallel_size
    if size.is_whole and experiment.actor.use_kl_loss:
        parts["reference model"] = dims.num_parameters * 2
    return sum(parts.values()), _in_words(parts)


def shared_memory(experiment: Experiment, dims: ModelDims, size: Size) -> tuple[int, str]:
    """Returns (bytes in /dev/shm of one node, their purpose) of `train`."""
    per_node = experiment.hardware.per_node
    if experiment.hardware.kind != "cpu":
        return (NCCL_SHM_BYTES if per_node > 1 else 64 << 20), "NCCL and Ray"
    rollout = experiment.rollout
    bucket = rollout.bucket_mb << 20
    travelling = per_node * min(bucket, sync_bytes(experiment, dims, size))
    store = experiment.ray.object_store_bytes
    return int(travelling + store), "weights that travel and Ray's objects"


def disk(
    experiment: Experiment, dims: ModelDims, size: Size, *, has_model: bool
) -> dict[Path, tuple[float, str]]:
    """Returns {folder: (bytes, their purpose)} of `train` or `sft`."""
    steps = planned_steps(experiment)
    kept, sft = experiment.checkpoints, experiment.supervised
    often, keep = (kept.every, kept.keep) if sft is None else (sft.save_every, sft.max_checkpoints)
    count = -(-steps // often) if often and often > 0 else 1
    # verl writes the new one before it removes the oldest
    count = min(count, keep + 1) if keep else count
    if size.bank_bytes:
        each: float = CHECKPOINT_BYTES + NUMBER_STATE_BYTES * size.num_parameters
    else:  # verl's own: the model, and the optimiser's state of what is trained
        number = dtype_bytes(experiment.actor.model_dtype)
        each = dims.num_parameters * number + 2 * number * size.num_parameters
    every = experiment.validation.every
    validations = 1 + (steps // every if experiment.is_rl and every > 0 else 1)
    rows = (experiment.validation.rows or 1_500) * (1 + len(experiment.validation.benchmarks))
    draws = experiment.validation.draws
    text = experiment.batch.max_response_tokens * BYTES_PER_TOKEN + VERDICTS_BYTES
    samples = validations * rows * draws * text
    needs = {
        experiment.run.dir: (
            count * each + samples,
            f"{count} checkpoints of {as_gib(each)} and at most {as_gib(samples)} of samples",
        )
    }
    if size.bank_bytes:
        folder = Path(experiment.run.bank_cache_dir or default_cache_dir())
        needs[folder] = (size.bank_bytes, "the bank")
    if not has_model:
        needs[hub_cache()] = (2.0 * dims.num_parameters, "the base model's files")
    return needs


def hub_cache() -> Path:
    """Returns the folder of the hub's files."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _in_words(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {as_gib(num_bytes)}" for name, num_bytes in parts.items())
