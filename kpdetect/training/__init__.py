"""Owns training: from labelled faces and a recipe to a run folder that is the model's bundle."""

from kpdetect.training.run import RESULT_FILE, RUN_FILE, train

__all__ = ["RESULT_FILE", "RUN_FILE", "train"]
