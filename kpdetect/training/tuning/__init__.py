"""Hyperparameter search: the settings to try, the trials, and their results."""
