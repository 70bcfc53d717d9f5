"""The embedded task and base model: a first reward curve without a download. Imports no torch."""

from tinylora_rl.tasks.arithmetic.base import base_model_dir
from tinylora_rl.tasks.arithmetic.problems import Problem, final_answer, sample_problems
from tinylora_rl.tasks.arithmetic.task import HELD_OUT_SEED, Arithmetic, rows

__all__ = ["HELD_OUT_SEED", "Arithmetic", "Problem", "base_model_dir", "final_answer"]
__all__ += ["rows", "sample_problems"]
