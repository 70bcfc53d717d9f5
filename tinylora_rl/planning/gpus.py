"""The GPUs of a plan, against those that are here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tinylora_rl.errors import MachineError
from tinylora_rl.planning.devices import Gpu
from tinylora_rl.planning.finding import Finding, Verdict, failed, passed, warned
from tinylora_rl.planning.memory import Phase
from tinylora_rl.planning.run_plan import NEAR, enough, parts_in
from tinylora_rl.planning.table import as_gib


def check_gpu_memory(phases: Sequence[Phase], gpus: Sequence[Gpu]) -> Finding:
    """The smallest of `gpus` holds every phase.

    It fails where the parts whose size is exact do not fit; where estimates decide it warns.
    """
    size = min(gpu.total_bytes for gpu in gpus)
    worst = max(phases, key=lambda phase: phase.least_bytes())
    certain = max(phases, key=lambda phase: phase.least_bytes(exact_only=True))
    if certain.least_bytes(exact_only=True) > size:
        return failed(
            "GPU memory",
            MachineError(
                f"{certain.name} takes {parts_in(certain)}, a GPU here has {as_gib(size)}; "
                f"{certain.fix}"
            ),
        )
    detail = f"{as_gib(size)} a GPU, {worst.name} takes about {parts_in(worst)}"
    if worst.least_bytes() > NEAR * size:
        return warned("GPU memory", f"{detail}; {worst.fix}")
    in_use = max(gpu.total_bytes - gpu.free_bytes for gpu in gpus)
    if worst.least_bytes() > size - in_use:
        return warned("GPU memory", f"{detail}, and others hold {as_gib(in_use)}; free that first")
    return passed("GPU memory", detail)


def with_needs(finding: Finding, phases: Sequence[Phase], seen: str, instead: str) -> Finding:
    """`finding`; of GPUs that are missing, with what is seen here and what the plan takes.

    Args:
        seen: see `devices.seen`.
        instead: overrides that take the same path on this machine.
    """
    if finding.subject != "GPUs" or finding.verdict is not Verdict.FAIL:
        return finding
    detail = (
        f"{finding.detail} ({seen}). This run needs GPUs with {enough(phases)}; {instead} walks "
        "its whole path without one, with a model of under 1 M parameters"
    )
    return dataclasses.replace(finding, detail=detail)
