"""A run looked at before it starts: what it would do, what it needs, what is wrong with it."""

from tinylora_rl.planning.consultation import doctor

__all__ = ["doctor"]
