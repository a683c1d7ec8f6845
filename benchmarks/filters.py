"""Measures what filters cost a face: finding the place, warping and blending, on a 640x480 picture.

Run it from the repository: ``python benchmarks/filters.py``. Faces are the mean face, turned by 20 degrees. Times
are medians of one thread's time on the processor, since the clock also counts what other programs took; each has the
picture's own copy in it, which is made once whatever the number of faces.
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
    """The mean face, so many pixels wide, turned, in the middle of the picture and a little below."""
    mean = face_shape().mean
    middle = (WIDTH / 2, HEIGHT * 0.6)
    points = apply_matrix(rotation(20, middle), mean * (width / np.ptp(mean[:, 0])) + middle)
    return Face(points, IBUG68)


def milliseconds(image: np.ndarray, faces: Sequence[Face], filters: Sequence[Filter], repeats: int) -> float:
    """The median of one call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        apply_filters(image, faces, filters)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Prints a table: each filter and all of them, on faces of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="(default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    sets = {name: [load_filter(name)] for name in SHIPPED}
    sets["all three"] = [load_filter(name) for name in SHIPPED]
    widths = (40, 80, 160, 240, 320)
    copy = milliseconds(image, [], [], arguments.repeats)
    print(f"{WIDTH}x{HEIGHT}, milliseconds of one processor a face (the picture's copy alone, once: {copy:.2f})")
    print(f"{'face width, pixels':20}" + "".join(f"{width:8}" for width in widths))
    for name, filters in sets.items():
        row = [milliseconds(image, [face_of(width)], filters, arguments.repeats) for width in widths]
        print(f"{name:20}" + "".join(f"{value:8.2f}" for value in row))


if __name__ == "__main__":
    main()
