"""Owns the command `kpdetect`: one word chooses which command runs; only that one is imported."""

import importlib
import sys
from collections.abc import Sequence

from kpdetect import __version__
from kpdetect.core.errors import unknown_name
from kpdetect.core.options import run_command

COMMANDS = {
    "train": "train a model with a named recipe, on your data or on drawn faces",
    "tune": "try settings: train a recipe with each, and tell which is best on validation",
    "evaluate": "measure a model on labelled faces",
    "export": "write SavedModel, TFLite and ONNX files, each checked against Keras",
    "benchmark": "time model files beside each other, and beside dlib and MediaPipe",
    "show": "draw labelled faces, transforms, learning curves, predictions and what a model looks at",
    "predict": "mark the faces of photographs, or of a data set",
    "label": "mark millions of photographs: Parquet in and out, on many workers, going on after an interruption",
    "track": "follow the faces of a video or a camera, each with a number of its own",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first word names."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"kpdetect {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise unknown_name("command", words[0], COMMANDS)
    module = importlib.import_module(f"kpdetect.{words[0]}")
    return int(module.main(words[1:]))


def _help() -> str:
    lines = [f"  {name:10} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: kpdetect COMMAND …    (kpdetect COMMAND --help tells more)", "", *lines])


def command() -> None:
    """The installed command's entry."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    command()
