"""One training run as a person meets it: its directory, its progress, its summary."""
