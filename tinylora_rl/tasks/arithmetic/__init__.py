"""The embedded task and base model: a first reward curve without a download. Imports no torch."""

from tinylora_rl.tasks.arithmetic.problems import Problem, sample_problems
from tinylora_rl.tasks.arithmetic.task import HELD_OUT_SEED, Arithmetic, base_model_dir, rows

__all__ = ["HELD_OUT_SEED", "Arithmetic", "Problem", "base_model_dir", "rows", "sample_problems"]
