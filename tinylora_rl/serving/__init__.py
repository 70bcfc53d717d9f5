"""Many adapters served from one base model by vLLM's own OpenAI-compatible server."""
