"""The embedded task and base model: a first reward curve without a download. Imports no torch."""

from tinylora_rl.tasks.arithmetic.base import base_model_dir
from tinylora_rl.tasks.arithmetic.task import (
    HELD_OUT_SEED,
    Problem,
    final_answer,
    rows,
    sample_problems,
)

__all__ = ["HELD_OUT_SEED", "Problem", "base_model_dir", "final_answer", "rows", "sample_problems"]
