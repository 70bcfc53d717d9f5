"""Experiment: a composed configuration read into frozen dataclasses, once."""
