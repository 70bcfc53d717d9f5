"""The policy on its way to the rollout workers, and the proof that it arrived."""
