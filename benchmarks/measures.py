"""Measures time and accuracy of `kpdetect.measures` on drawn, mirrored and labelled faces.

    python benchmarks/measures.py [DATA_FOLDER] [--sample N] [--faces N]

The data folder, an argument or the environment variable KPDETECT_DATA, contains ibug_300w/; without it, only times and
drawn faces are measured. The shipped model predicts the keypoints of pictures in their labelled boxes.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect import measures
from kpdetect.core.geometry import Floats
from kpdetect.core.images import cv2
from kpdetect.core.schema import IBUG68
from kpdetect.data import Annotations, load
from kpdetect.data.synthetic.shape import place_face
from kpdetect.detection import Face
from kpdetect.predict import Predictor

REPEATS = 7
CLOSED_LABEL, OPEN_LABEL = 0.12, 0.22  # labelled eyes are closed below the first aspect ratio and open above the second


def drawn_faces(count: int, size: int) -> list[Face]:
    """Synthetic faces on pictures of `size` pixels."""
    points = [np.asarray(place_face(0, index).points * size, np.float32) for index in range(count)]
    return [Face(one, IBUG68) for one in points]


def print_times(count: int) -> None:
    """Prints the median time per face on one thread, in microseconds."""
    faces = drawn_faces(count, 480)
    picture = np.random.default_rng(0).integers(0, 256, (480, 480, 3), dtype=np.uint8)
    functions: dict[str, Callable[[Face], Any]] = {
        "head_pose": measures.head_pose,
        "eye_openness": measures.eye_openness,
        "mouth_openness": measures.mouth_openness,
        "smile": measures.smile,
        "measure (all of these)": measures.measure,
        "face_chip (112 pixels)": lambda face: measures.face_chip(picture, face),
    }
    for name, function in functions.items():
        function(faces[0])
        repeats = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            for face in faces:
                function(face)
            repeats.append((time.perf_counter() - start) / len(faces) * 1e6)
        print(f"{name:24} {statistics.median(repeats):6.0f} us per face (best {min(repeats):.0f})")


def angles(face: Face) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees."""
    pose = measures.head_pose(face)
    return pose.yaw_deg, pose.pitch_deg, pose.roll_deg


def print_deviation(name: str, deviations: list[Floats]) -> None:
    """Prints mean and 95th percentile of the absolute errors (N, 3) of yaw, pitch and roll."""
    size = np.abs(deviations)
    yaw, pitch, roll = size.mean(axis=0)
    far = " ".join(f"{angle:.1f}" for angle in np.quantile(size, 0.95, axis=0))
    print(f"{name}: yaw {yaw:.2f}, pitch {pitch:.2f}, roll {roll:.2f} degrees mean error (95th percentile {far})")


def predicted(predictor: Predictor, faces: Annotations, row: int, mirrored: bool = False) -> Face:
    """The predicted face of a labelled picture, or of its mirror image."""
    picture, (x0, y0, x1, y1) = faces.read(faces.paths[row]), faces.boxes[row]
    if not mirrored:
        return predictor(picture, [(x0, y0, x1, y1)])[0]
    last = picture.shape[1] - 1
    return predictor(np.ascontiguousarray(picture[:, ::-1]), [(last - x1, y0, last - x0, y1)])[0]


def print_mirrored(predictor: Predictor, faces: Annotations, sample: int) -> None:
    """Prints how far the pose of a mirrored picture is from the mirrored pose."""
    rows = np.random.default_rng(1).choice(len(faces), min(sample, len(faces)), replace=False)
    pairs = [(predicted(predictor, faces, row), predicted(predictor, faces, row, mirrored=True)) for row in rows]
    deviations = [np.subtract(angles(there), np.multiply(angles(here), (-1, 1, -1))) for here, there in pairs]
    print_deviation(f"{len(pairs)} pictures of {faces.name} and their mirror images", deviations)
    for name, function in (("smile", measures.smile), ("mouth_openness", measures.mouth_openness)):
        change = np.mean([abs(function(here) - function(there)) for here, there in pairs])
        print(f"  {name} changes by {change:.3f} on average")


def print_closed_eyes(predictor: Predictor, faces: Annotations, sample: int) -> None:
    """Prints the share of closed and of open eyes that are below each threshold."""
    ratios = np.array([measures.eye_openness(Face(points, faces.schema)).mean for points in faces.keypoints])
    random, found = np.random.default_rng(0), []
    for rows in (np.flatnonzero(ratios < CLOSED_LABEL), np.flatnonzero(ratios > OPEN_LABEL)):
        chosen = random.choice(rows, min(len(rows), 3 * sample), replace=False)
        found.append(np.array([measures.eye_openness(predicted(predictor, faces, row)).mean for row in chosen]))
    shut, opened = found
    print(f"{faces.name}, by its labels: {len(shut)} faces with closed and {len(opened)} with open eyes")
    for threshold in (0.15, 0.18, 0.20, 0.22, 0.24):
        hits, false = (shut < threshold).mean(), (opened < threshold).mean()
        print(f"  below {threshold:.2f}: {hits:4.0%} of the closed, {false:.1%} of the open eyes")


def main() -> None:
    """Prints times, then errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--sample", type=int, default=60, help="pictures to mirror (default: %(default)s)")
    parser.add_argument("--faces", type=int, default=300, help="drawn faces (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print_times(min(200, arguments.faces))
    placed = [place_face(0, index) for index in range(arguments.faces)]
    truth = [(one.pose.yaw_deg, one.pose.pitch_deg, one.pose.roll_deg) for one in placed]
    found = [angles(face) for face in drawn_faces(len(placed), 300)]
    print_deviation(f"{len(placed)} drawn faces of known pose", list(np.subtract(found, truth)))
    if arguments.data is None:
        return
    faces, predictor = load(f"ibug:{Path(arguments.data) / 'ibug_300w'}"), Predictor()
    print_mirrored(predictor, faces, arguments.sample)
    print_closed_eyes(predictor, faces, arguments.sample)


if __name__ == "__main__":
    main()
