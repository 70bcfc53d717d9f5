"""A run looked at before it starts: what it would do, what it needs, what is wrong with it."""

from tinylora_rl.launch.doctor.consultation import doctor

__all__ = ["doctor"]
