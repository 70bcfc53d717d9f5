"""Everything that touches verl or vLLM: verl is extended through its own registries, never changed."""
