"""Checks, before a rank starts, that the machine can do a supervised run."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from tinylora_rl.errors import MachineError
from tinylora_rl.evaluation.preflight import check_engine
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.training.preflight import check_attention, check_gpus, num_gpus

PLUGIN = "tinylora_rl.verl_plugin.entry_point"


def check_machine(experiment: Experiment) -> None:
    """Checks that the device chosen is the machine's, and that verl will see this package.

    verl itself is left to the ranks: importing it takes as long as all the other checks.

    Raises:
        MachineError: with what is missing and the fix.
    """
    if PLUGIN not in {entry_point.value for entry_point in entry_points(group="verl.plugins")}:
        raise MachineError(
            "verl plugin: verl does not see the tinylora_rl plugin; install the package "
            "(pip install -e .) first"
        )
    check_gpus(experiment)
    check_attention(experiment)
    count = num_gpus() if experiment.hardware.kind == "cpu" else 0
    if count and os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
        raise MachineError(
            f"device=cpu: {count} GPUs are visible and verl would take them; use device=cuda"
        )
    if experiment.supervised is not None and experiment.supervised.evaluate:
        check_engine(experiment.engine)
