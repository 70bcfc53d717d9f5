"""Sends the policy to the rollout workers and verifies that they sample from it."""
