"""Extends verl through its registries: engine, rollout, worker, trainer. verl is not changed."""
