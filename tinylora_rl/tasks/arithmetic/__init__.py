"""The embedded task and base model: a first reward curve without a download. Imports no torch."""

from tinylora_rl.tasks.arithmetic.task import (
    HELD_OUT_SEED,
    Arithmetic,
    Problem,
    base_model_dir,
    rows,
    sample_problems,
)

__all__ = ["HELD_OUT_SEED", "Arithmetic", "Problem", "base_model_dir", "rows", "sample_problems"]
