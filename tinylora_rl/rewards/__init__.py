"""Rewards: answer extraction, exact match and the function verl calls. Imports no torch."""

from tinylora_rl.rewards.extract import EXTRACTORS
from tinylora_rl.rewards.normalise import canonical, exact_match, parse_number
from tinylora_rl.rewards.score import compute_score

__all__ = ["EXTRACTORS", "canonical", "compute_score", "exact_match", "parse_number"]
