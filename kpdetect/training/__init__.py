"""Training: turns labelled faces and a recipe into a run folder, which is also the model's bundle.

Importing this package does not import TensorFlow; `train` does, on first use.
"""

from typing import TYPE_CHECKING, Any

from kpdetect.training.checks import RUN_FILE

if TYPE_CHECKING:
    from kpdetect.training.run import train

RESULT_FILE = "result.csv"

__all__ = ["RESULT_FILE", "RUN_FILE", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from kpdetect.training.run import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
