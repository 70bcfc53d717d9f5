"""From a configuration to a plan, a table and an exit code. Nothing is started, nothing written."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.planning.devices import DeviceProbe
from tinylora_rl.planning.evaluation import examine_evaluation
from tinylora_rl.planning.finding import exit_code
from tinylora_rl.planning.table import finding_lines, plan_lines, verdict_line
from tinylora_rl.planning.training import examine_training
from tinylora_rl.runs.console import exit_noise_to, library_noise_to


def doctor(config: DictConfig) -> int:
    """The run that `config` (of `train`, `sft` or `evaluate`) describes is planned and checked.

    Returns:
        0 nothing failed, 2 the configuration did, 3 the machine did.
    """
    nowhere = Path(os.devnull)
    exit_noise_to(nowhere)
    examine = examine_training if "verb" in config else examine_evaluation
    probe = DeviceProbe()
    try:
        with library_noise_to(nowhere):
            plan, findings = examine(config, probe)
    finally:
        probe.stop()
    if plan:
        print("\n".join([*plan_lines(plan), ""]))
    print("\n".join([*finding_lines(findings), "", verdict_line(findings)]), flush=True)
    return exit_code(findings)
