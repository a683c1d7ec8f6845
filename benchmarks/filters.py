"""Measures the time of filters per face: fit, warp and blending, on a picture of 640x480 pixels.

    python benchmarks/filters.py [--repeats N]

Faces are the mean face, rotated by 20 degrees. Times are medians of processor time on one thread, which other programs
do not change. Each includes the copy of the picture, which is made once for all faces.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import cv2
import numpy as np

from kpdetect.core.geometry import apply_matrix, rotation
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic.face_shape import face_shape
from kpdetect.detection import Face
from kpdetect.filters import SHIPPED, Filter, apply_filters, load_filter

HEIGHT, WIDTH = 480, 640


def face_of(width: float) -> Face:
    """The mean face, `width` pixels wide, rotated, a little below the middle of the picture."""
    mean = face_shape().mean
    middle = (WIDTH / 2, HEIGHT * 0.6)
    points = apply_matrix(rotation(20, middle), mean * (width / np.ptp(mean[:, 0])) + middle)
    return Face(points, IBUG68)


def milliseconds(image: np.ndarray, faces: Sequence[Face], filters: Sequence[Filter], repeats: int) -> float:
    """The median processor time of one call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        apply_filters(image, faces, filters)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Prints a table of each filter and all of them, on faces of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="calls (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    sets = {name: [load_filter(name)] for name in SHIPPED}
    sets["all three"] = [load_filter(name) for name in SHIPPED]
    widths = (40, 80, 160, 240, 320)
    copy = milliseconds(image, [], [], arguments.repeats)
    print(f"{WIDTH}x{HEIGHT}, processor milliseconds per face (of these, the copy of the picture: {copy:.2f})")
    print(f"{'face width, pixels':20}" + "".join(f"{width:8}" for width in widths))
    for name, filters in sets.items():
        row = [milliseconds(image, [face_of(width)], filters, arguments.repeats) for width in widths]
        print(f"{name:20}" + "".join(f"{value:8.2f}" for value in row))


if __name__ == "__main__":
    main()
