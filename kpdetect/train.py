"""The command ``kpdetect train``."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kpdetect.core.fast_imports import UNUSED_BY_TRAINING, fast_imports
from kpdetect.core.keras_backend import TENSORFLOW, choose_backend, configured_backend
from kpdetect.core.options import parse_options, quietly, run_command
from kpdetect.recipes import TrainOptions
from kpdetect.training.checks import check_folder, check_options
from kpdetect.training.distributed.options import check_worker_options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``train``.

    Args:
        argv: The words after the command's name; None reads ``sys.argv``.

    Returns:
        The exit status, 0.

    Example:
        >>> main(["--data", "synthetic:200", "--epochs", "1", "--out", "runs/first"])  # doctest: +SKIP
        0
    """
    example = "python -m kpdetect.train --data youtube-faces:DIR --out runs/faces"
    options = parse_options(TrainOptions, argv, "train", example)
    if options.workers is not None:
        check_worker_options(options)
    else:
        choose_backend(options.backend)
    recipe = check_options(options)
    check_folder(Path(options.out or f"runs/{recipe.name}"), options)
    if options.workers is not None:
        from kpdetect.training.distributed.run import train_on_workers  # imports Ray, which is an extra

        print(train_on_workers(options))
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
    unused = UNUSED_BY_TRAINING if configured_backend() == TENSORFLOW else ()
    with quietly("starting TensorFlow"), fast_imports(*unused):
        from kpdetect.training.run import run_training  # takes seconds, so only after the options are checked

    print(run_training(options).report)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
