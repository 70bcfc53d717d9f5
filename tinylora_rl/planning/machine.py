"""The machine around the accelerators: memory, cores, shared memory, disk, ports."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import psutil

from tinylora_rl.errors import MachineError
from tinylora_rl.planning.finding import Finding, failed, passed, warned
from tinylora_rl.planning.table import as_gib

CGROUPS = Path("/sys/fs/cgroup")
RAY_TMP = Path("/tmp")  # sessions and logs
RAY_MAX_DISK_SHARE = 0.95  # Ray's local_fs_capacity_threshold: beyond it creates no object


def free_memory() -> tuple[int, str]:
    """Bytes that this process and its children may still take, and what bounds them."""
    free, bound = int(psutil.virtual_memory().available), "this machine"
    for limit_file, used_file, cache_key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
    ):
        for folder in _own_cgroups():
            limit, used = _number_in(folder / limit_file), _number_in(folder / used_file)
            if limit is None or used is None:
                continue
            left = limit - used + _stat(folder / "memory.stat", cache_key)
            if left < free:
                free, bound = left, f"a control group's limit of {as_gib(limit)}"
    return max(0, free), bound


def check_memory(needed: float, detail: str) -> Finding:
    """The host has `needed` bytes, an estimate whose parts `detail` names."""
    free, bound = free_memory()
    line = f"{as_gib(free)} free ({bound}), about {as_gib(needed)} needed: {detail}"
    if free < needed:
        return warned("host memory", f"{line}; free some, or raise the limit")
    return passed("host memory", line)


def check_cores(num_ranks: int) -> Finding:
    """There are cores enough for each rank's processes."""
    cores = float(len(os.sched_getaffinity(0)))
    for folder in _own_cgroups():
        quota = _words_in(folder / "cpu.max")
        if len(quota) == 2 and quota[0].isdigit():
            cores = min(cores, int(quota[0]) / int(quota[1]))
    least = 2 * num_ranks
    detail = f"{cores:g} for {num_ranks} rank{'' if num_ranks == 1 else 's'} on this node"
    if cores < least:
        return warned("cores", f"{detail}; give it {least} or more, or expect to wait")
    return passed("cores", detail)


def check_shared_memory(needed: int, detail: str) -> Finding:
    """/dev/shm has room for `needed` bytes."""
    free = _free_bytes(Path("/dev/shm"))
    line = f"{as_gib(free)} free in /dev/shm, {as_gib(needed)} for {detail}"
    if free < needed:
        return warned("shared memory", f"{line}; give a container --shm-size or --ipc=host")
    return passed("shared memory", line)


def check_disk(needs: dict[Path, tuple[float, str]]) -> list[Finding]:
    """Each file system has room for all that is going to be written to it.

    Args:
        needs: {folder, which need not exist: (bytes, what for)}.
    """
    systems: dict[int, list[Path]] = {}
    for folder in needs:
        systems.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    findings = []
    for folders in systems.values():
        home = _existing(folders[0])
        free = _free_bytes(home)
        needed = sum(needs[folder][0] for folder in folders)
        what = "; ".join(f"{needs[folder][1]} in {folder}" for folder in folders)
        line = f"{as_gib(free)} free, {as_gib(needed)} needed: {what}"
        if not os.access(home, os.W_OK):
            findings.append(
                failed("disk", MachineError(f"{home}: not writable; give another folder"))
            )
        elif free < needed:
            fix = "free some, or put run.dir, HF_HOME or run.bank_cache_dir elsewhere"
            findings.append(failed("disk", MachineError(f"{line}; {fix}")))
        else:
            findings.append(passed("disk", line))
    return findings


def check_ray_disk() -> list[Finding]:
    """Ray will create objects: it refuses to on a disk that is all but full. Silent where so."""
    usage = psutil.disk_usage(str(RAY_TMP))
    if usage.used < RAY_MAX_DISK_SHARE * (usage.used + usage.free):
        return []
    return [
        warned(
            "Ray's disk",
            f"{RAY_TMP} is {usage.percent:.0f} % full, and Ray stores nothing beyond "
            f"{RAY_MAX_DISK_SHARE:.0%}; free some",
        )
    ]


def check_ports(count: int) -> Finding:
    """So many ports can be listened on at once, on loopback and on this node's own address."""
    addresses = list(dict.fromkeys(["127.0.0.1", _own_address()]))
    for address in addresses:
        try:
            with ExitStack() as held:
                for _ in range(count):
                    listener = held.enter_context(socket.socket())
                    listener.bind((address, 0))
                    listener.listen(1)
        except OSError as error:
            return failed(
                "ports",
                MachineError(
                    f"{address}: cannot listen on {count} ports ({error.strerror or error}); Ray "
                    "and vLLM need them: fix the node's address, or the limit on open files "
                    "(ulimit -n)"
                ),
            )
    return passed("ports", f"{count} free ones on {' and '.join(addresses)}")


def _own_address() -> str:
    """The address that Ray will take: the one that routes outside; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
            return str(probe.getsockname()[0])
        except OSError:  # no network: loopback it is
            return "127.0.0.1"


def _existing(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


def _free_bytes(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def _own_cgroups() -> list[Path]:
    """The folders of this process's control groups and of their parents, which bound it too."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = CGROUPS / ("memory" if "memory" in controllers.split(",") else "")
        folder = root / path.lstrip("/")
        found += [each for each in (folder, *folder.parents) if each.is_relative_to(root)]
    return [folder for folder in dict.fromkeys([*found, CGROUPS]) if folder.is_dir()]


def _words_in(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []


def _number_in(file: Path) -> int | None:
    words = _words_in(file)
    return int(words[0]) if words and words[0].isdigit() else None


def _stat(file: Path, key: str) -> int:
    words = _words_in(file)
    return next((int(words[i + 1]) for i, word in enumerate(words[:-1]) if word == key), 0)
