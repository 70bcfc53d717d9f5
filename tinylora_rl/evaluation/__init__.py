"""Policies on benchmarks: one vLLM engine, one protocol, intervals, nothing graded twice."""
