"""Experiments as the command line makes them, in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import Experiment, read

Make = Callable[..., Experiment]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make("sft", "+recipe=arithmetic_cpu", ...)`; the run directory is a temporary one."""

    def with_overrides(command: str, *overrides: str) -> Experiment:
        return read(compose(command, overrides, run_dir=str(tmp_path)))

    return with_overrides
