"""Runs verl and vLLM on a machine without an accelerator."""
