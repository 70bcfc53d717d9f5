"""One adapter on disk."""

from tinylora_rl.artifact.directory import MANIFEST, load, read_manifest, save

__all__ = ["MANIFEST", "load", "read_manifest", "save"]
