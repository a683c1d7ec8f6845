"""Owns the command that trains."""

import os
import sys
from collections.abc import Sequence

from kpdetect.core.keras_backend import choose_backend
from kpdetect.core.options import parse_options, quietly, run_command
from kpdetect.recipes import TrainOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``train``."""
    example = "python -m kpdetect.train --data youtube-faces:DIR --out runs/faces"
    options = parse_options(TrainOptions, argv, "train", example)
    choose_backend(options.backend)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    with quietly("starting TensorFlow"):
        from kpdetect.training import train  # it takes seconds: not before the options are right

    train(options)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
