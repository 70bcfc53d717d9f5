"""Everything that touches verl or vLLM. verl is extended through its registries, not changed."""
