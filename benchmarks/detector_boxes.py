"""Fits the constants that convert a Haar cascade's square, or YuNet's five points, to the tight box of 68 points.

    python benchmarks/detector_boxes.py [DATA_FOLDER] [--sample N]

Prints the constants of `kpdetect.detection.CASCADES` for each cascade, recall and overlap of `HaarDetector`, and the
constants of `kpdetect.detection.yunet`, for which labelled points replace those of the network. The data folder, an
argument or KPDETECT_DATA, contains youtube_faces/, ibug_300w/, afw_photos/ and photos/no_face/. Not every face of the
AFW photographs is labelled, so some of the other boxes there are faces.
"""

import argparse
import os
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpdetect.core.geometry import Floats, intersection_over_union, tight_box
from kpdetect.core.images import read_image
from kpdetect.data import Annotations, load, read_youtube_faces
from kpdetect.detection import CASCADES, Cascade, HaarDetector
from kpdetect.detection.yunet import boxes_of_five_points

FOUND = 0.4  # intersection over union with the tight box from which a face counts as found
FALSE = 0.3  # below it, a box counts as a false detection


@dataclass(frozen=True)
class Photo:
    """A photograph and the tight boxes of its labelled faces, (N, 4)."""

    path: str
    boxes: Floats


def youtube_faces(folder: Path) -> list[Photo]:
    """Pictures with one labelled face each."""
    faces = read_youtube_faces(str(folder))
    return [Photo(path, box[None]) for path, box in zip(faces.paths.tolist(), faces.boxes, strict=True)]


def dlib_xml(file: Path) -> list[Photo]:
    """Photographs with all their labelled faces."""
    photos = []
    for image in ElementTree.parse(file).getroot().iter("image"):
        boxes = [_tight(box) for box in image.iter("box")]
        photos.append(Photo(str(file.parent / image.attrib["file"]), np.array(boxes, np.float32).reshape(-1, 4)))
    return photos


def squares_to_boxes(photo: Photo, cascade: Cascade, squares: Floats, votes: Floats) -> list[Floats]:
    """Shift x, y and width, height in sides of the square, for each labelled face that a cascade found."""
    rows = []
    side = squares[:, 2] - squares[:, 0]
    center = (squares[:, :2] + squares[:, 2:]) / 2
    for box in photo.boxes:
        size, middle = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        near = (np.abs(center - middle).max(axis=1) < 0.35 * size.mean()) & (np.abs(side / size.mean() - 1.3) < 0.6)
        if near.any():
            best = np.flatnonzero(near)[votes[near].argmax()]
            rows.append(np.concatenate([middle - center[best], size]) / side[best])
    return rows


def measure(name: str, photos: list[Photo], detector: HaarDetector) -> list[Floats]:
    """Prints recall of the detector; prints and returns the medians (4,) of each cascade."""
    rows: list[list[Floats]] = [[] for _ in CASCADES]
    found, overlaps, false = 0, [], 0
    start = time.perf_counter()
    for photo in tqdm(photos, desc=name, unit="photo"):
        image = read_image(photo.path)
        for index, (cascade, squares, votes) in enumerate(detector.squares(image)):
            rows[index] += squares_to_boxes(photo, cascade, squares, votes)
        boxes = detector(image)
        overlap = intersection_over_union(photo.boxes, boxes)
        best = overlap.max(axis=1, initial=0)
        found, false = found + (best >= FOUND).sum(), false + (overlap.max(axis=0, initial=0) < FALSE).sum()
        overlaps += best[best >= FOUND].tolist()
    labelled = sum(len(photo.boxes) for photo in photos)
    seconds = (time.perf_counter() - start) / 2 / len(photos)  # the detector ran twice
    print(
        f"{name}: found {found} of {labelled} ({100 * found / max(labelled, 1):.1f} %), {false} other boxes in "
        f"{len(photos)} photographs, median overlap {np.median(overlaps or [np.nan]):.3f}, {seconds:.2f} s each"
    )
    medians = [np.median(part, axis=0) if part else np.full(4, np.nan) for part in rows]
    for cascade, median, part in zip(CASCADES, medians, rows, strict=True):
        spread = np.subtract(*np.percentile(part, [75, 25], axis=0)) if part else median
        print(f"  {cascade.file}{' mirrored' * cascade.mirrored}: {median.round(3)}, quartile range {spread.round(3)}")
    return medians


def five_points(faces: Annotations) -> Floats:
    """YuNet's five points of labelled faces: eyes, tip of the nose, corners of the mouth; (N, 5, 2)."""
    schema = faces.schema
    eyes = [faces.keypoints[:, list(schema.groups[name])].mean(axis=1) for name in ("right_eye", "left_eye")]
    others = [faces.keypoints[:, schema.index(name)] for name in ("nose_tip", "mouth_right", "mouth_left")]
    return np.stack([*eyes, *others], axis=1)


def measure_five_points(name: str, faces: Annotations) -> Floats:
    """Prints and returns lean, drop, width and height, (4,), as `boxes_of_five_points` uses them."""
    five, boxes = five_points(faces).astype(np.float64), faces.boxes.astype(np.float64)
    eyes, mouth = five[:, :2].mean(axis=1), five[:, 3:].mean(axis=1)
    height = np.linalg.norm(mouth - eyes, axis=1, keepdims=True)
    unit = np.maximum(height, np.linalg.norm(five[:, 1] - five[:, 0], axis=1, keepdims=True))
    down = (mouth - eyes) / height
    across = np.stack([down[:, 1], -down[:, 0]], axis=1)
    off, lead = ((place - (eyes + mouth) / 2) / unit for place in ((boxes[:, :2] + boxes[:, 2:]) / 2, five[:, 2]))
    sideways, led = (off * across).sum(axis=1), (lead * across).sum(axis=1)
    lean, drop = float(led @ sideways / (led @ led)), float(np.median((off * down).sum(axis=1)))
    constants = np.array([lean, drop, *np.median((boxes[:, 2:] - boxes[:, :2]) / unit, axis=0)], np.float32)
    pairs = zip(boxes_of_five_points(five), faces.boxes, strict=True)
    overlap = np.mean([intersection_over_union(a[None], b[None]) for a, b in pairs])
    print(
        f"{name}: lean, drop, width, height {constants.round(3)}; mean overlap with the current constants {overlap:.3f}"
    )
    return constants


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA", "data"))
    parser.add_argument("--sample", type=int, default=120, help="most photographs of each set (default: %(default)s)")
    options = parser.parse_args()
    data, detector = Path(options.folder), HaarDetector()
    sets = {
        "YouTube Faces": youtube_faces(data / "youtube_faces"),
        "300-W": dlib_xml(data / "ibug_300w" / "labels_ibug_300W_train.xml"),
        "AFW, whole": dlib_xml(data / "afw_photos" / "labels.xml"),
    }
    medians = [measure(name, _spread(photos, options.sample), detector) for name, photos in sets.items()]
    without_faces = [
        Photo(str(path), np.zeros((0, 4), np.float32)) for path in sorted((data / "photos" / "no_face").iterdir())
    ]
    print("mean of the sets' medians: shift x, y, width, height in sides of the cascade's square")
    for cascade, median in zip(CASCADES, np.mean(medians, axis=0), strict=True):
        print(f"  {cascade.file}{' mirrored' * cascade.mirrored}: {median.round(3)}")
    labelled = {
        "YouTube Faces": load(f"youtube-faces:{data / 'youtube_faces'}"),
        "300-W": load(f"ibug:{data / 'ibug_300w'}"),
        "AFW, whole": load(f"ibug:{data / 'afw_photos' / 'labels.xml'}"),
    }
    print("constants of YuNet's five points")
    print("mean of the sets:", np.mean([measure_five_points(*item) for item in labelled.items()], axis=0).round(3))
    found = sum(len(detector(read_image(photo.path))) for photo in without_faces)
    print(f"photographs without a face: {found} boxes in {len(without_faces)}")


def _spread(photos: list[Photo], count: int) -> list[Photo]:
    """At most `count` photographs, evenly spread over the list."""
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(count, len(photos))).astype(int))
    return [photos[index] for index in chosen]


def _tight(box: ElementTree.Element) -> Floats:
    return tight_box([[float(part.attrib["x"]), float(part.attrib["y"])] for part in box.iter("part")])


if __name__ == "__main__":
    main()
