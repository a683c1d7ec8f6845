"""Measures recall and false detections of the detectors, alone, with the model's score, and of the whole `Predictor`.

    python benchmarks/detection.py [DATA_FOLDER] [--sample N] [--sets NAME ...] [--detectors finder,haar]

Recall and false detections per photograph are printed for several thresholds of the detector (the score of the face
finder, the votes of the Haar cascades), before and after the model's score. The data folder, an argument or
KPDETECT_DATA, contains youtube_faces/, ibug_300w/, afw_photos/, dlib_faces/, photos/ and wild/. Pictures of YouTube
Faces and 300-W are from their test splits, with one labelled face each; those of 300-W are measured also turned by 45,
90 and 180 degrees. The AFW photographs are whole and show several faces, not all of them labelled, so some of their
false detections are faces.

Of wild/, the part is measured that training leaves out (`kpdetect.data.is_held_out`): full profiles (CFP; the box of
the points that are labelled), people in masks, where photographs without any detection are counted, and scenes without
a face. The shipped finder was trained with another quarter left out, so most of these photographs were among its
training pictures. The babies (InfAnFace) are in no training. A face counts as found at an intersection over union of
0.4, and a box as a false detection below 0.3 with every label.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpdetect.core.geometry import (
    Floats,
    Matrix,
    apply_matrix,
    intersection_over_union,
    rotation,
    tight_box,
    translation,
)
from kpdetect.core.images import Pixels, cv2, read_image
from kpdetect.data import Annotations, is_held_out, load, split_by_rule
from kpdetect.detection import Detector, FaceFinder, HaarDetector
from kpdetect.modelfile import bundle
from kpdetect.predict import Predictor

FOUND, FALSE = 0.4, 0.3  # intersection over union
SCORES = (0.0, 0.5)
THRESHOLDS = {"finder": (0.15, 0.25, 0.35, 0.5), "haar": (3, 5, 10, 20)}
"""Scores of the face finder, and votes of the cascades."""


@dataclass(frozen=True)
class Photograph:
    """A photograph to measure.

    Attributes:
        path: Its file.
        truth: (N, 4), the labelled faces.
        matrix: (3, 3), from the file's pixels to the pixels that are measured.
        side: Side of the turned picture in pixels; 0 for a photograph that is not turned.
    """

    path: str
    truth: Floats
    matrix: Matrix
    side: int = 0

    def read(self) -> Pixels:
        """(H, W, 3) uint8."""
        pixels = read_image(self.path)
        if not self.side:
            return pixels
        turned = cv2.warpAffine(pixels, self.matrix[:2], (self.side, self.side), flags=cv2.INTER_LINEAR)
        return np.asarray(turned, np.uint8)


@dataclass(frozen=True)
class Detections:
    """The detections on one photograph.

    Attributes:
        truth: (N, 4), the labelled faces.
        found: By threshold: boxes (M, 4), and the model's scores of them (M,).
        predicted: (P, 4), the tight boxes of the faces of `Predictor`.
    """

    truth: Floats
    found: dict[float, tuple[Floats, Floats]]
    predicted: Floats

    def boxes(self, threshold: float, min_score: float) -> Floats:
        """The detector's boxes of a threshold with at least a score by the model."""
        boxes, scores = self.found[threshold]
        return boxes[scores >= min_score]


def detectors_of(name: str) -> dict[float, Detector]:
    """A detector with each of its thresholds."""
    if name == "finder":
        return {threshold: FaceFinder(min_score=threshold) for threshold in THRESHOLDS[name]}
    return {threshold: HaarDetector(min_votes=int(threshold)) for threshold in THRESHOLDS[name]}


def detect(photograph: Photograph, detectors: Mapping[float, Detector], predictor: Predictor) -> Detections:
    """The detections at each threshold with the model's scores, and the faces of a predictor."""
    pixels, found = photograph.read(), {}
    for threshold, detector in detectors.items():
        boxes = np.asarray(detector(pixels), np.float32)
        scores = [1.0 if face.score is None else face.score for face in predictor(pixels, boxes)]
        found[threshold] = boxes, np.array(scores, np.float32)
    points = [face.keypoints for face in predictor(pixels)]
    return Detections(photograph.truth, found, tight_box(points) if points else np.zeros((0, 4), np.float32))


def photographs(faces: Annotations, sample: int, turn_deg: float = 0.0) -> list[Photograph]:
    """At most `sample` photographs, evenly spread over the set, turned clockwise, with the boxes of their faces."""
    paths = np.unique(faces.paths)
    chosen = paths[np.unique(np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int))]
    result = []
    for path in chosen.tolist():
        rows = np.flatnonzero(faces.paths == path)
        matrix, side, truth = np.eye(3), 0, faces.boxes[rows]
        if turn_deg:
            height, width = read_image(path).shape[:2]
            side = int(np.ceil(np.hypot(height, width)))
            turn = rotation(turn_deg, ((width - 1) / 2, (height - 1) / 2))
            matrix = translation((side - width) / 2, (side - height) / 2) @ turn
            truth = tight_box(apply_matrix(matrix, faces.keypoints[rows]), faces.visible[rows])
        result.append(Photograph(path, truth, matrix, side))
    return result


def without_labels(folder: Path, sample: int) -> list[Photograph]:
    """At most `sample` photographs of a folder, evenly spread, without labels."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if folder.parent.name == "wild":
        paths = [path for path in paths if is_held_out(path.name)]
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int))
    return [Photograph(str(paths[i]), np.zeros((0, 4), np.float32), np.eye(3)) for i in chosen]


def profiles(folder: Path) -> Annotations:
    """The full profiles of CFP's people that are left out of the training."""
    faces = load(f"csv:{folder / 'labels.csv'}")
    names = [Path(path).name for path in faces.paths.tolist()]
    kept = ["profile" in name and is_held_out(name.split("_")[0]) for name in names]
    return faces.take(np.array(kept))


def report(name: str, photos: list[Photograph], detector: str) -> None:
    """Prints recall and false detections on a set."""
    predictor = Predictor(detector=None if detector == "finder" else detector)
    detectors = detectors_of(detector)
    results = [detect(photo, detectors, predictor) for photo in tqdm(photos, desc=name, unit="photo")]
    labelled = sum(len(one.truth) for one in results)
    print(f"\n{name}: {labelled} labelled faces in {len(results)} photographs, by {detector}")
    for threshold in THRESHOLDS[detector]:
        rates = [_rates([(one.truth, one.boxes(threshold, score)) for one in results], labelled) for score in SCORES]
        print(f"  threshold {threshold:4}: {rates[0]}; with a score of 0.5 and more: {rates[1]}")
    print(f"  Predictor: {_rates([(one.truth, one.predicted) for one in results], labelled)}", flush=True)


def _rates(pairs: list[tuple[Floats, Floats]], labelled: int) -> str:
    found = false = without = 0
    for truth, kept in pairs:
        overlap = intersection_over_union(truth, kept)
        found += int((overlap.max(axis=1, initial=0) >= FOUND).sum())
        false += int((overlap.max(axis=0, initial=0) < FALSE).sum())
        without += not len(kept)
    if labelled:
        return f"{100 * found / labelled:5.1f} % found, {false / len(pairs):.3f} false detections per photograph"
    return f"{without} of {len(pairs)} photographs without a box, {false / len(pairs):.3f} boxes per photograph"


def sets_of(data: Path, sample: int) -> dict[str, Callable[[], list[Photograph]]]:
    """The sets by name; each is read when it is called."""
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]

    def test_part(spec: str) -> Annotations:
        return split_by_rule(load(spec), rule)[2]

    ibug, wild = f"ibug:{data / 'ibug_300w'}", data / "wild"
    turned = {f"300w-{turn}": (lambda turn=turn: photographs(test_part(ibug), sample, turn)) for turn in (45, 90, 180)}
    return {
        "youtube": lambda: photographs(test_part(f"youtube-faces:{data / 'youtube_faces'}"), sample),
        "300w": lambda: photographs(test_part(ibug), sample),
        **turned,
        "afw": lambda: photographs(load(f"ibug:{data / 'afw_photos' / 'labels.xml'}"), sample),
        "dlib": lambda: photographs(load(f"ibug:{next((data / 'dlib_faces').glob('*.xml'))}"), sample),
        "profiles": lambda: photographs(profiles(wild / "cfp"), sample),
        "babies": lambda: photographs(load(f"csv:{wild / 'infants' / 'labels.csv'}"), sample),
        "masks": lambda: without_labels(wild / "masks", sample),
        "scenes": lambda: without_labels(wild / "scenes", sample),
        "no-face": lambda: without_labels(data / "photos" / "no_face", sample),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA", "data"))
    parser.add_argument("--sample", type=int, default=150, help="most photographs of each set (default: %(default)s)")
    parser.add_argument("--detectors", default="finder,haar", help="separated by commas (default: %(default)s)")
    parser.add_argument("--sets", nargs="*", help="names of sets (default: all)")
    options = parser.parse_args()
    sets = sets_of(Path(options.folder), options.sample)
    for detector in options.detectors.split(","):
        for name in options.sets or sets:
            report(name, sets[name](), detector)


if __name__ == "__main__":
    main()
