"""Serves many adapters of one base model through vLLM's own OpenAI-compatible server."""
