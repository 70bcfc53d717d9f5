"""Keeps the files of one run, and shows its progress and its summary to the user."""
