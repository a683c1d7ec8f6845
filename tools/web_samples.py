"""Draws the sample pictures and icons of the page for browsers into ``web/page``: ``python tools/web_samples.py``.

The group is drawn by `kpdetect.data.synthetic`; the astronaut is NASA's photograph in the public domain that comes with
scikit-image.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.data

from kpdetect.core.images import cv2
from kpdetect.data import synthetic

SAMPLES = Path(__file__).resolve().parents[1] / "web" / "page" / "samples"
GROUP = ((7, 12), (7, 23), (7, 11), (7, 36), (7, 8), (7, 44))  # seeds and indices
COLUMNS, TILE, GAP = 3, 440, 16
TILTED = (7, 24)


def group() -> npt.NDArray[np.uint8]:
    """A video conference of drawn faces: tiles with round corners on a dark ground, (H, W, 3)."""
    rows = -(-len(GROUP) // COLUMNS)
    size_hw = (rows * (TILE + GAP) + GAP, COLUMNS * (TILE + GAP) + GAP)
    scene = np.full((*size_hw, 3), (17, 21, 27), np.float32)
    mask = np.zeros((TILE, TILE), np.uint8)
    radius = 28
    cv2.rectangle(mask, (radius, 0), (TILE - 1 - radius, TILE - 1), (255,), -1)
    cv2.rectangle(mask, (0, radius), (TILE - 1, TILE - 1 - radius), (255,), -1)
    for x in (radius, TILE - 1 - radius):
        for y in (radius, TILE - 1 - radius):
            cv2.circle(mask, (x, y), radius, (255,), -1, cv2.LINE_AA)
    alpha = mask[..., None].astype(np.float32) / 255
    for place, (seed, index) in enumerate(GROUP):
        face = synthetic.render(seed, index, TILE)[0].astype(np.float32)
        y, x = (GAP + (TILE + GAP) * part for part in divmod(place, COLUMNS))
        part = scene[y : y + TILE, x : x + TILE]
        part[:] = alpha * face + (1 - alpha) * part
    return np.asarray(np.rint(scene), np.uint8)


def main() -> None:
    """Writes the samples."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    SAMPLES.mkdir(parents=True, exist_ok=True)
    photograph: Any = skimage.data.astronaut
    pictures = {
        "group": group(),
        "astronaut": np.asarray(photograph(), np.uint8),
        "tilted": synthetic.render(*TILTED, 640)[0],
    }
    for name, picture in pictures.items():
        encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 84])[1]
        (SAMPLES / f"{name}.jpg").write_bytes(encoded.tobytes())


if __name__ == "__main__":
    main()
