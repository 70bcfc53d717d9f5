class ArtifactError(ValueError):
    """Refuses an adapter directory. The message is one line: the file or field, the fix."""
