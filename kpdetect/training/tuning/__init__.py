"""Owns the search for settings: what is tried, each trial as a training of its own, and what the trials gave."""
