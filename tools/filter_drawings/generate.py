"""Draws the filters that are part of the package, with their anchors, into ``kpdetect/filters/pictures``.

Run it from the root of the repository: ``python -m tools.filter_drawings.generate``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.geometry import apply_matrix, rotation
from kpdetect.core.images import cv2
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic.face_shape import face_shape
from tools.filter_drawings import hat, moustache, sunglasses
from tools.filter_drawings.canvas import FINER, Canvas

FOLDER = Path(__file__).resolve().parents[2] / "kpdetect" / "filters" / "pictures"


@dataclass(frozen=True)
class Drawing:
    """A filter's drawing and its placement.

    Attributes:
        draw: Draws it.
        warp: See `kpdetect.filters.fitting.WARPS`.
        weights: The anchors, points of ``ibug68``, and their weights. IMM's 58 points include enough of them too.
        tilt_deg: By how much the filter is turned clockwise about `pivot` on an upright face.
        pivot: In units of the canvas.
        depth: See `kpdetect.filters.Filter`.
        inside: Group of points that the picture stays within; the middle line of the face divides it into halves.
        shorten: First and last height, in units of the canvas, that may be removed below the top of a photograph.
        arms: For each arm the place of its hinge, in units, and the point of the face that it reaches to.
    """

    draw: Callable[[], Canvas]
    warp: str
    weights: dict[str, float]
    tilt_deg: float = 0.0
    pivot: tuple[float, float] = (0.0, 0.0)
    depth: float = 0.0
    inside: str | None = None
    shorten: tuple[float, float] | None = None
    arms: dict[tuple[float, float], str] = field(default_factory=dict)


def _pair(name: str, weight: float) -> dict[str, float]:
    return {f"right_{name}": weight, f"left_{name}": weight}


DRAWINGS = {
    # The eyes define the position and the mouth the rotation. A perspective warp would fit a narrow mouth by rotating.
    "sunglasses": Drawing(
        sunglasses.draw,
        "affine",
        {**_pair("eye_outer", 4), **_pair("eye_inner", 4), "nose_bridge_1": 2, "mouth_right": 1, "mouth_left": 1},
        arms={(-sunglasses.HINGE[0], sunglasses.HINGE[1]): "jaw_right_1", sunglasses.HINGE: "jaw_left_1"},
    ),
    # A hat is round, so a head that turns away does not make it narrower.
    "hat": Drawing(
        hat.draw,
        "similarity",
        {"jaw_right_1": 2, "jaw_left_1": 2, **_pair("eye_outer", 2), "mouth_right": 1, "mouth_left": 1},
        tilt_deg=hat.TILT_DEG,
        pivot=hat.PIVOT,
        depth=hat.DEPTH,
        shorten=hat.WALL,
    ),
    # Nose and lip define the position for every expression; the eyes define the size, because a smile widens the mouth.
    "moustache": Drawing(
        moustache.draw,
        "affine",
        {**_pair("eye_outer", 1), "nose_base": 6, "upper_lip_top": 6, "mouth_right": 1.5, "mouth_left": 1.5},
        inside="jaw",
    ),
}


def describe(name: str, drawing: Drawing, canvas: Canvas) -> dict[str, Any]:
    """The JSON description of a filter, as `kpdetect.filters.load_filter` reads it."""
    mean = face_shape().mean
    middle = mean[[IBUG68.index("right_eye_outer"), IBUG68.index("left_eye_outer")]].mean(axis=0)
    held = np.array([mean[IBUG68.index(point)] - middle for point in drawing.weights])
    places = canvas.anchors(apply_matrix(rotation(-drawing.tilt_deg, drawing.pivot), held))
    anchors = {
        point: [*np.round(place, 1).tolist(), weight]
        for (point, weight), place in zip(drawing.weights.items(), places, strict=True)
    }
    description: dict[str, Any] = {"picture": f"{name}.png", "warp": drawing.warp, "anchors": anchors}
    if drawing.depth:
        description["depth"] = drawing.depth
    if drawing.inside is not None:
        description["inside"] = {"group": drawing.inside, "middle": _rounded(canvas, (0.0, 0.0))[0]}
    if drawing.shorten is not None:
        description["shorten"] = [_rounded(canvas, (0.0, height))[1] for height in drawing.shorten]
    if drawing.arms:
        unit = canvas.scale / FINER
        description["arms"] = [
            {
                "picture": f"{name}_arm.png",
                "hinge": _rounded(canvas, hinge),
                "end": end,
                "width": round(sunglasses.ARM_HEIGHT * unit, 1),
            }
            for hinge, end in drawing.arms.items()
        ]
    return description


def _rounded(canvas: Canvas, place: tuple[float, float]) -> list[float]:
    rounded: list[float] = np.round(canvas.anchors([place])[0], 1).tolist()
    return rounded


def write_png(canvas: Canvas, path: Path) -> None:
    """Writes a drawing as PNG."""
    bgra = cv2.cvtColor(canvas.picture(), cv2.COLOR_RGBA2BGRA)
    with atomic_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the filters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(DRAWINGS), help="draw one filter instead of all")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(argv)
    for name, drawing in DRAWINGS.items():
        if options.only not in (None, name):
            continue
        canvas = drawing.draw()
        with atomic_file(options.out / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(describe(name, drawing, canvas)) + "\n", encoding="utf-8")
        write_png(canvas, options.out / f"{name}.png")
        if drawing.arms:
            write_png(sunglasses.draw_arm(), options.out / f"{name}_arm.png")
        print(options.out / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
