"""GRPO training through verl: checks before the start, the run, resume, tracking."""
