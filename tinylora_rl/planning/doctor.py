"""Plans and checks a run: prints a plan and a table. Nothing is started, nothing written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.planning.devices import DeviceProbe
from tinylora_rl.planning.evaluation import examine_evaluation
from tinylora_rl.planning.finding import code_of, finding_lines, plan_lines, verdict_line
from tinylora_rl.planning.training import examine_training
from tinylora_rl.runs.console import exit_noise_to, library_noise_to


def doctor(config: DictConfig, overrides: Sequence[str] = ()) -> int:
    """Plans and checks the run that `config` (of `train`, `sft` or `evaluate`) describes.

    Args:
        overrides: of the command line.

    Returns:
        0 nothing failed, 2 the configuration did, 3 the machine did.
    """
    nowhere = Path(os.devnull)
    exit_noise_to(nowhere)
    probe = DeviceProbe()
    try:
        with library_noise_to(nowhere):
            if "command" in config:
                plan, findings = examine_training(config, overrides, probe)
            else:
                plan, findings = examine_evaluation(config, probe)
    finally:
        probe.stop()
    if plan:
        print("\n".join([*plan_lines(plan), ""]))
    print("\n".join([*finding_lines(findings), "", verdict_line(findings)]), flush=True)
    return code_of(findings)
