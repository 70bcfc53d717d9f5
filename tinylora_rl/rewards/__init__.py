"""Grades responses: the judges, a pool of processes that never hangs, and the function verl calls.

    from tinylora_rl.rewards import Gold, GradingPool, compute_score, judge

    judge("strict", "6 * 12 = 72\n#### 72", Gold(answer="72")).verdict  # "right"
    compute_score("openai/gsm8k", "#### 72", "72", judge="strict")["score"]  # 1.0
    with GradingPool() as pool:  # for judges that may hang
        pool.grade(r"\boxed{x/2}", Gold(answer="0.5x"), ["boxed_symbolic"]).judged

Imports no torch.
"""

from tinylora_rl.rewards.controls import CONTROLS
from tinylora_rl.rewards.extract import EXTRACTORS
from tinylora_rl.rewards.judges import JUDGES, Gold, Judged, is_isolated, judge, register_judge
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
    "is_isolated",
    "judge",
    "parse_number",
    "register_judge",
]
