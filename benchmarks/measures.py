"""Measures what a face's measures cost, and how far they can be trusted: drawn faces, mirrored and labelled pictures.

    python benchmarks/measures.py [DATA_FOLDER] [--sample N]

The data folder is that of the environment variable KPDETECT_DATA, and holds ibug_300w/; without it the times and the
drawn faces are printed alone. Pictures go through the shipped model, in their labelled boxes.
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
CLOSED_LABEL, OPEN_LABEL = 0.12, 0.22  # aspect ratios of labelled eyes that are surely shut, surely open


def drawn_faces(count: int, size: int) -> list[Face]:
    """The points of drawn faces on pictures of a size."""
    points = [np.asarray(place_face(0, index).points * size, np.float32) for index in range(count)]
    return [Face(one, IBUG68) for one in points]


def print_times(count: int) -> None:
    """Prints the median of several repeats on one thread, in microseconds a face."""
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
        print(f"{name:24} {statistics.median(repeats):6.0f} us a face (best {min(repeats):.0f})")


def angles(face: Face) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees."""
    pose = measures.head_pose(face)
    return pose.yaw_deg, pose.pitch_deg, pose.roll_deg


def print_deviation(name: str, deviations: list[Floats]) -> None:
    """Prints the mean and the 95th percentile of (N, 3) deviations of yaw, pitch and roll."""
    size = np.abs(deviations)
    yaw, pitch, roll = size.mean(axis=0)
    far = " ".join(f"{angle:.1f}" for angle in np.quantile(size, 0.95, axis=0))
    print(f"{name}: yaw {yaw:.2f}, pitch {pitch:.2f}, roll {roll:.2f} degrees off in the mean ({far} at 95 %)")


def marked(predictor: Predictor, faces: Annotations, row: int, mirrored: bool = False) -> Face:
    """A labelled picture, or its mirror image, through the model."""
    picture, (x0, y0, x1, y1) = faces.read(faces.paths[row]), faces.boxes[row]
    if not mirrored:
        return predictor(picture, [(x0, y0, x1, y1)])[0]
    last = picture.shape[1] - 1
    return predictor(np.ascontiguousarray(picture[:, ::-1]), [(last - x1, y0, last - x0, y1)])[0]


def print_mirrored(predictor: Predictor, faces: Annotations, sample: int) -> None:
    """Prints how far a mirrored picture is from the mirrored pose."""
    rows = np.random.default_rng(1).choice(len(faces), min(sample, len(faces)), replace=False)
    pairs = [(marked(predictor, faces, row), marked(predictor, faces, row, mirrored=True)) for row in rows]
    deviations = [np.subtract(angles(there), np.multiply(angles(here), (-1, 1, -1))) for here, there in pairs]
    print_deviation(f"{len(pairs)} pictures of {faces.name} and their mirror images", deviations)
    for name, function in (("smile", measures.smile), ("mouth_openness", measures.mouth_openness)):
        change = np.mean([abs(function(here) - function(there)) for here, there in pairs])
        print(f"  {name} changes by {change:.3f} in the mean")


def print_closed_eyes(predictor: Predictor, faces: Annotations, sample: int) -> None:
    """Prints which share of shut and of open eyes each threshold calls closed."""
    ratios = np.array([measures.eye_openness(Face(points, faces.schema)).mean for points in faces.keypoints])
    random, found = np.random.default_rng(0), []
    for rows in (np.flatnonzero(ratios < CLOSED_LABEL), np.flatnonzero(ratios > OPEN_LABEL)):
        chosen = random.choice(rows, min(len(rows), 3 * sample), replace=False)
        found.append(np.array([measures.eye_openness(marked(predictor, faces, row)).mean for row in chosen]))
    shut, opened = found
    print(f"{len(shut)} faces with shut and {len(opened)} with open eyes by their labels of {faces.name}:")
    for threshold in (0.15, 0.18, 0.20, 0.22, 0.24):
        hits, false = (shut < threshold).mean(), (opened < threshold).mean()
        print(f"  below {threshold:.2f}: {hits:4.0%} of the shut ones, {false:.1%} of the open ones")


def main() -> None:
    """Prints times, then deviations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--sample", type=int, default=60, help="pictures to mirror (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print_times(200)
    placed = [place_face(0, index) for index in range(300)]
    truth = [(one.pose.yaw_deg, one.pose.pitch_deg, one.pose.roll_deg) for one in placed]
    found = [angles(face) for face in drawn_faces(len(placed), 300)]
    print_deviation("300 drawn faces of known pose", list(np.subtract(found, truth)))
    if arguments.data is None:
        return
    faces, predictor = load(f"ibug:{Path(arguments.data) / 'ibug_300w'}"), Predictor()
    print_mirrored(predictor, faces, arguments.sample)
    print_closed_eyes(predictor, faces, arguments.sample)


if __name__ == "__main__":
    main()
