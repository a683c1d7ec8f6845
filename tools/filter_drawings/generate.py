"""Owns the command that draws the filters that ship, with their anchors: into ``kpdetect/filters/pictures``."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.images import cv2
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic.face_shape import face_shape
from tools.filter_drawings import hat, moustache, sunglasses
from tools.filter_drawings.canvas import Canvas

FOLDER = Path(__file__).resolve().parents[2] / "kpdetect" / "filters" / "pictures"


@dataclass(frozen=True)
class Drawing:
    """How a filter is drawn and held.

    Attributes:
        draw: Draws it.
        warp: See `kpdetect.filters.fitting.WARPS`.
        weights: The points that hold it, of iBUG's 68 (IMM's 58 have enough of them too), and how firmly.
    """

    draw: Callable[[], Canvas]
    warp: str
    weights: dict[str, float]


def _pair(name: str, weight: float) -> dict[str, float]:
    return {f"right_{name}": weight, f"left_{name}": weight}


DRAWINGS = {
    # The eyes say where; the mouth how the head is turned. A perspective warp takes a narrow mouth for a turned head.
    "sunglasses": Drawing(
        sunglasses.draw,
        "affine",
        {**_pair("eye_outer", 4), **_pair("eye_inner", 4), "nose_bridge_1": 2, "mouth_right": 1, "mouth_left": 1},
    ),
    # A hat is round: a head that turns away does not make it narrower. The ears tell where the head's middle is.
    "hat": Drawing(
        hat.draw,
        "similarity",
        {"jaw_right_1": 2, "jaw_left_1": 2, **_pair("eye_outer", 2), "mouth_right": 1, "mouth_left": 1},
    ),
    # Between nose and lip, whatever the mouth does; the eyes tell the size, since a smile widens the mouth.
    "moustache": Drawing(
        moustache.draw,
        "affine",
        {**_pair("eye_outer", 1), "nose_base": 6, "upper_lip_top": 6, "mouth_right": 1.5, "mouth_left": 1.5},
    ),
}


def main() -> None:
    """Draws all of them."""
    mean = face_shape().mean
    middle = mean[[IBUG68.index("right_eye_outer"), IBUG68.index("left_eye_outer")]].mean(axis=0)
    for name, drawing in DRAWINGS.items():
        canvas = drawing.draw()
        places = canvas.anchors([mean[IBUG68.index(point)] - middle for point in drawing.weights])
        anchors = {
            point: [*np.round(place, 1).tolist(), weight]
            for (point, weight), place in zip(drawing.weights.items(), places, strict=True)
        }
        description = {"picture": f"{name}.png", "warp": drawing.warp, "anchors": anchors}
        with atomic_file(FOLDER / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(description) + "\n", encoding="utf-8")
        with atomic_file(FOLDER / f"{name}.png") as temporary:
            bgra = cv2.cvtColor(canvas.picture(), cv2.COLOR_RGBA2BGRA)
            temporary.write_bytes(cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


if __name__ == "__main__":
    main()
