"""The command `kpdetect`: its first word chooses a command, and only that command's module is imported."""

import importlib
import sys
from collections.abc import Sequence

from kpdetect import __version__
from kpdetect.core.errors import unknown_name
from kpdetect.core.options import run_command

COMMANDS = {
    "train": "train a model with a named recipe, on your data or on synthetic faces",
    "tune": "train a recipe with several settings and report the best on validation",
    "evaluate": "measure a model on labelled faces",
    "convert": "write labelled faces in another format: CSV, COCO, YOLO, dlib's XML, Label Studio",
    "export": "write SavedModel, TFLite and ONNX files, each compared with Keras",
    "publish": "upload a model to the Hugging Face hub",
    "benchmark": "compare the speed of model files, also with dlib and MediaPipe",
    "show": "draw labelled faces, augmentations, learning curves, predictions and feature maps",
    "predict": "find faces and their keypoints in photographs or in a data set",
    "label": "predict millions of photographs on many workers, into Parquet; can be resumed",
    "track": "follow the faces of a video or a camera, each with its own number",
    "web": "serve the page that finds faces in the browser, with photographs, videos and the camera",
    "doctor": "print versions, devices, codecs and extras, for bug reports",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first word names; without a word, prints the list of commands.

    Args:
        argv: The words after ``kpdetect``; None takes those of the process.

    Returns:
        The exit status.

    Raises:
        KpdetectError: There is no such command.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:10} {what}" for name, what in COMMANDS.items()]
        print("\n".join(["usage: kpdetect COMMAND …    (kpdetect COMMAND --help lists its options)", "", *lines]))
        return 0
    if words[0] == "--version":
        print(f"kpdetect {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise unknown_name("command", words[0], COMMANDS)
    module = importlib.import_module(f"kpdetect.{words[0]}")
    return int(module.main(words[1:]))


def command() -> None:
    """Entry point of the installed command `kpdetect`."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    command()
