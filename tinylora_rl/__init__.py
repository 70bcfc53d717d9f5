"""TinyLoRA reinforcement learning: a handful of trained numbers, through verl, vLLM and Ray.

Importing this package imports no torch; each room below does so only where it needs it.
"""

__version__ = "0.1.0"
