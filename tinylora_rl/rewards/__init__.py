"""Rewards: judges, grading that never hangs, and the function verl calls. Imports no torch."""

from tinylora_rl.rewards.controls import CONTROLS
from tinylora_rl.rewards.extract import EXTRACTORS
from tinylora_rl.rewards.judges import JUDGES, Gold, Judged, is_symbolic, judge
from tinylora_rl.rewards.normalise import canonical, exact_match, parse_number
from tinylora_rl.rewards.pool import Graded, GradingPool, Submission
from tinylora_rl.rewards.process import GradingError
from tinylora_rl.rewards.score import compute_score

__all__ = [
    "CONTROLS",
    "EXTRACTORS",
    "JUDGES",
    "Gold",
    "Graded",
    "GradingError",
    "GradingPool",
    "Judged",
    "Submission",
    "canonical",
    "compute_score",
    "exact_match",
    "is_symbolic",
    "judge",
    "parse_number",
]
