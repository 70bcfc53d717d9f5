"""Checks the machine around the accelerators: memory, cores, shared memory, disk, ports.

The needs are coarse: processes of the embedded recipe on a CPU held 6.3 GB together at their peak,
and those of GPU nodes are assumptions.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import psutil

from tinylora_rl.adapter.bank_cache import default_cache_dir
from tinylora_rl.base_model import ModelDims
from tinylora_rl.methods import Size
from tinylora_rl.planning.cost import planned_steps
from tinylora_rl.planning.finding import Finding, as_gib, machine_failed, passed, warned
from tinylora_rl.planning.memory import GIB, dtype_bytes, sync_bytes
from tinylora_rl.settings.experiment import Experiment

CGROUPS = Path("/sys/fs/cgroup")
RAY_TMP = Path("/tmp")  # sessions and logs
RAY_MAX_DISK_SHARE = 0.95  # Ray's local_fs_capacity_threshold: beyond it creates no object
DRIVER_BYTES = 3 * GIB  # driver, Ray, agent loops, grading
RANK_BYTES = {"cpu": 2 * GIB, "cuda": 6 * GIB}  # the processes of an actor and of its vLLM
NCCL_SHM_BYTES = GIB  # of ranks that share a node


# -- needs of a training ---------------------------------------------------------------------------


def host_memory(experiment: Experiment, dims: ModelDims) -> float:
    """Estimates the bytes of one node: processes, the base model loading, vLLM's copy of it."""
    hardware, rollout = experiment.hardware, experiment.rollout
    ranks, is_cpu = hardware.per_node, hardware.kind == "cpu"
    # verl loads the model on every rank where embeddings are tied, else on one
    loading = dims.num_parameters * dtype_bytes(experiment.actor.model_dtype)
    loading *= ranks if dims.is_tied or is_cpu else 1
    needed = float(DRIVER_BYTES + ranks * RANK_BYTES[hardware.kind] + loading)
    asleep = rollout.free_cache_engine and experiment.sync.sleep_level == 1
    if experiment.is_rl and (is_cpu or (asleep and not hardware.rollout_per_node)):
        copy = dims.num_parameters * dtype_bytes(rollout.dtype)
        needed += ranks * copy / rollout.tensor_parallel_size
        if is_cpu:
            needed += ranks * float(experiment.ray.env_vars.get("VLLM_CPU_KVCACHE_SPACE", 4)) * GIB
    return needed


def shared_memory(experiment: Experiment, dims: ModelDims, size: Size) -> int:
    """Estimates the bytes in /dev/shm: NCCL's; on a CPU weights that travel and Ray's objects."""
    ranks = experiment.hardware.per_node
    if experiment.hardware.kind != "cpu":
        return NCCL_SHM_BYTES if ranks > 1 else 64 << 20
    bucket = experiment.rollout.bucket_mb << 20
    travelling = ranks * min(bucket, sync_bytes(experiment, dims, size))
    return travelling + experiment.ray.object_store_bytes


def disk(
    experiment: Experiment, dims: ModelDims, size: Size, *, has_model: bool
) -> dict[Path, tuple[float, str]]:
    """Returns {folder: (bytes, their purpose)} of `train` or `sft`."""
    kept, sft = experiment.checkpoints, experiment.supervised
    often, keep = (kept.every, kept.keep) if sft is None else (sft.save_every, sft.max_checkpoints)
    count = -(-planned_steps(experiment) // often) if often and often > 0 else 1
    # verl writes the new one before it removes the oldest
    count = min(count, keep + 1) if keep else count
    number = dtype_bytes(experiment.actor.model_dtype)
    each = dims.num_parameters * number + 2 * number * size.num_parameters  # verl's own: with Adam
    if size.bank_bytes:
        each = (48 << 10) + 12 * size.num_parameters  # v, Adam's moments; generators, positions
    needs = {experiment.run.dir: (float(count * each), f"{count} checkpoints of {as_gib(each)}")}
    if size.bank_bytes:
        folder = Path(experiment.run.bank_cache_dir or default_cache_dir())
        needs[folder] = (float(size.bank_bytes), "the bank")
    return needs | ({} if has_model else download(dims))


def download(dims: ModelDims) -> dict[Path, tuple[float, str]]:
    """Returns what a base model takes in the hub's cache, as `disk` does."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return {Path(HF_HUB_CACHE): (2.0 * dims.num_parameters, "the base model's files")}


# -- checks ----------------------------------------------------------------------------------------


def free_memory() -> tuple[int, str]:
    """Returns the bytes that this process and its children may still take, and what bounds them."""
    free, bound = int(psutil.virtual_memory().available), "this machine"
    for folder in _own_cgroups():
        limit, used, stat = (
            _words(folder / f"memory.{name}") for name in ("max", "current", "stat")
        )
        if limit and limit[0].isdigit() and used:
            cache = dict(zip(stat[::2], stat[1::2], strict=False)).get("inactive_file", 0)
            left = int(limit[0]) - int(used[0]) + int(cache)
            if left < free:
                free, bound = left, f"a control group's limit of {as_gib(int(limit[0]))}"
    return max(0, free), bound


def check_needs(
    experiment: Experiment, dims: ModelDims, size: Size, *, has_model: bool
) -> list[Finding]:
    """Checks that host memory, shared memory and disk hold a run of `train` or `sft`."""
    found = [check_memory(host_memory(experiment, dims))]
    if experiment.is_rl:
        found.append(check_shared_memory(shared_memory(experiment, dims, size)))
    return found + check_disk(disk(experiment, dims, size, has_model=has_model))


def check_memory(needed: float) -> Finding:
    """Checks that the host has `needed` bytes, an estimate."""
    free, bound = free_memory()
    line = f"{as_gib(free)} free ({bound}), about {as_gib(needed)} needed"
    if free < needed:
        return warned("host memory", f"{line}; free some, or raise the limit")
    return passed("host memory", line)


def check_cores(num_ranks: int) -> Finding:
    """Checks that there are cores enough for each rank's processes."""
    cores = float(len(os.sched_getaffinity(0)))
    for folder in _own_cgroups():
        quota = _words(folder / "cpu.max")
        if len(quota) == 2 and quota[0].isdigit():
            cores = min(cores, int(quota[0]) / int(quota[1]))
    detail = f"{cores:g} for {num_ranks} rank{'' if num_ranks == 1 else 's'} on this node"
    if cores < 2 * num_ranks:
        return warned("cores", f"{detail}; give it {2 * num_ranks} or more, or expect to wait")
    return passed("cores", detail)


def check_shared_memory(needed: int) -> Finding:
    """Checks that /dev/shm has room for `needed` bytes."""
    shm = Path("/dev/shm")
    free = psutil.disk_usage(str(shm)).free if shm.is_dir() else 0
    line = f"{as_gib(free)} free in /dev/shm, {as_gib(needed)} needed"
    if free < needed:
        return warned("shared memory", f"{line}; give a container --shm-size or --ipc=host")
    return passed("shared memory", line)


def check_disk(needs: dict[Path, tuple[float, str]]) -> list[Finding]:
    """Checks that each file system has room for all that is going to be written to it.

    Args:
        needs: {folder, which need not exist: (bytes, what for)}.
    """
    systems: dict[int, list[Path]] = {}
    for folder in needs:
        systems.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    findings = []
    for folders in systems.values():
        home = _existing(folders[0])
        free = psutil.disk_usage(str(home)).free
        needed = sum(needs[folder][0] for folder in folders)
        what = "; ".join(f"{needs[folder][1]} in {folder}" for folder in folders)
        line = f"{as_gib(free)} free, {as_gib(needed)} needed: {what}"
        if not os.access(home, os.W_OK):
            findings.append(machine_failed("disk", f"{home}: not writable; give another folder"))
        elif free < needed:
            fix = "free some, or put run.dir, HF_HOME or run.bank_cache_dir elsewhere"
            findings.append(machine_failed("disk", f"{line}; {fix}"))
        else:
            findings.append(passed("disk", line))
    return findings


def check_ray_disk() -> list[Finding]:
    """Warns where Ray will create no objects: on a disk that is all but full."""
    usage = psutil.disk_usage(str(RAY_TMP))
    if usage.used < RAY_MAX_DISK_SHARE * (usage.used + usage.free):
        return []
    full = f"{RAY_TMP} is {usage.percent:.0f} % full, and Ray stores nothing beyond "
    return [warned("Ray's disk", f"{full}{RAY_MAX_DISK_SHARE:.0%}; free some")]


def check_ports(count: int) -> Finding:
    """Checks that so many ports can be listened on at once, on loopback and the node's address."""
    addresses = list(dict.fromkeys(["127.0.0.1", _own_address()]))
    for address in addresses:
        try:
            with ExitStack() as open_ports:
                for _ in range(count):
                    listener = open_ports.enter_context(socket.socket())
                    listener.bind((address, 0))
                    listener.listen(1)
        except OSError as error:
            return machine_failed(
                "ports",
                f"{address}: cannot listen on {count} ports ({error.strerror or error}); Ray and "
                "vLLM need them: fix the node's address, or the limit on open files (ulimit -n)",
            )
    return passed("ports", f"{count} free ones on {' and '.join(addresses)}")


def _own_address() -> str:
    """Returns the address that Ray will take: the one that routes outside; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
            return str(probe.getsockname()[0])
        except OSError:  # no network: loopback it is
            return "127.0.0.1"


def _existing(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


def _own_cgroups() -> list[Path]:
    """Returns this process's control group (version 2) and its parents, which bound it too."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = CGROUPS / own.lstrip("/")
    within = [each for each in (folder, *folder.parents) if each.is_relative_to(CGROUPS)]
    return [each for each in within if each.is_dir()]


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []
