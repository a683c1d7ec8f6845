"""Draws ``exported_models/compact/example.jpg``: the packaged model on a photograph in the public domain.

    python tools/example_picture.py [FILE]

The photograph comes with scikit-image.
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from kpdetect import Predictor, draw_faces
from kpdetect.core.images import Pixels, write_image

EXAMPLE = Path(__file__).resolve().parents[1] / "exported_models" / "compact" / "example.jpg"
HEAD_XYXY = (90, 0, 370, 250)
ENLARGED = 2.5


def example_picture() -> Pixels:
    """The head of ``skimage.data.astronaut()`` (NASA, public domain), enlarged, with its points: (625, 700, 3)."""
    x0, y0, x1, y1 = HEAD_XYXY
    head = importlib.import_module("skimage.data").astronaut()[y0:y1, x0:x1]
    large = np.asarray(cv2.resize(head, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC), np.uint8)
    return draw_faces(large, Predictor()(large))


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=EXAMPLE, help="where to write it")
    write_image(parser.parse_args(argv).file, example_picture())


if __name__ == "__main__":
    main()
