"""Measures recall and false detections of the detectors, alone, with the model's score, and of the whole `Predictor`.

    python benchmarks/detection.py [DATA_FOLDER] [--sample N]

Recall and false detections per photograph are printed for several thresholds of the detector (the score of the face
finder, the votes of the Haar cascades), before and after the model's score. The data folder, an argument or
KPDETECT_DATA, contains youtube_faces/, ibug_300w/, afw_photos/, dlib_faces/ and photos/. Pictures of YouTube Faces and
300-W are from their test splits, with one labelled face each. The AFW photographs are whole and show several faces, not
all of them labelled, so some of their false detections are faces. A face counts as found at an intersection over union
of 0.4, and a box as a false detection below 0.3 with every label.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpdetect.core.geometry import Floats, intersection_over_union, tight_box
from kpdetect.core.images import Pixels, read_image
from kpdetect.data import Annotations, load, split_by_rule
from kpdetect.detection import Detector, FaceFinder, HaarDetector
from kpdetect.modelfile import bundle
from kpdetect.predict import Predictor

FOUND, FALSE = 0.4, 0.3  # intersection over union
SCORES = (0.0, 0.5)
THRESHOLDS = {"finder": (0.15, 0.25, 0.35, 0.5), "haar": (3, 5, 10, 20)}
"""Scores of the face finder, and votes of the cascades."""


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

    def count(self, threshold: float, min_score: float) -> tuple[int, int]:
        """The number of labelled faces that the detector found, and of its false detections."""
        boxes, scores = self.found[threshold]
        return self.count_of(boxes[scores >= min_score])

    def count_of(self, kept: Floats) -> tuple[int, int]:
        """The number of labelled faces that boxes (n, 4) find, and of false detections among the boxes."""
        overlap = intersection_over_union(self.truth, kept)
        found = int((overlap.max(axis=1, initial=0) >= FOUND).sum())
        return found, int((overlap.max(axis=0, initial=0) < FALSE).sum())


def detectors_of(name: str) -> dict[float, Detector]:
    """A detector with each of its thresholds."""
    if name == "finder":
        return {threshold: FaceFinder(min_score=threshold) for threshold in THRESHOLDS[name]}
    return {threshold: HaarDetector(min_votes=int(threshold)) for threshold in THRESHOLDS[name]}


def detect(photograph: Pixels, truth: Floats, detectors: Mapping[float, Detector], predictor: Predictor) -> Detections:
    """The detections at each threshold with the model's scores, and the faces of a predictor."""
    found = {}
    for threshold, detector in detectors.items():
        boxes = np.asarray(detector(photograph), np.float32)
        scores = [1.0 if face.score is None else face.score for face in predictor(photograph, boxes)]
        found[threshold] = boxes, np.array(scores, np.float32)
    points = [face.keypoints for face in predictor(photograph)]
    return Detections(truth, found, tight_box(points) if points else np.zeros((0, 4), np.float32))


def photographs(faces: Annotations, sample: int) -> list[tuple[str, Floats]]:
    """At most `sample` photographs, evenly spread over the set, with the boxes of their faces."""
    paths = np.unique(faces.paths)
    chosen = paths[np.unique(np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int))]
    return [(str(path), faces.boxes[faces.paths == path]) for path in chosen]


def report(name: str, photos: list[tuple[str, Floats]], detector: str) -> None:
    """Prints recall and false detections on a set."""
    predictor = Predictor(detector=None if detector == "finder" else detector)
    detectors = detectors_of(detector)
    progress = tqdm(photos, desc=name, unit="photo")
    results = [detect(read_image(path), truth, detectors, predictor) for path, truth in progress]
    labelled = sum(len(one.truth) for one in results)
    print(f"\n{name}: {labelled} labelled faces in {len(results)} photographs, by {detector}")
    for threshold in THRESHOLDS[detector]:
        rates = [_rates([one.count(threshold, min_score) for one in results], labelled) for min_score in SCORES]
        print(f"  threshold {threshold:4}: {rates[0]}; with a score of 0.5 and more: {rates[1]}")
    print(f"  Predictor: {_rates([one.count_of(one.predicted) for one in results], labelled)}", flush=True)


def _rates(counts: list[tuple[int, int]], labelled: int) -> str:
    found, false = np.array(counts).sum(axis=0)
    recall = f"{100 * found / labelled:5.1f} % found, " if labelled else ""
    return f"{recall}{false / len(counts):.3f} false detections per photograph"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA", "data"))
    parser.add_argument("--sample", type=int, default=150, help="most photographs of each set (default: %(default)s)")
    parser.add_argument("--detectors", default="finder,haar", help="separated by commas (default: %(default)s)")
    options = parser.parse_args()
    data = Path(options.folder)
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    sets = {
        "YouTube Faces, test people": split_by_rule(load(f"youtube-faces:{data / 'youtube_faces'}"), rule)[2],
        "300-W, test photographs": split_by_rule(load(f"ibug:{data / 'ibug_300w'}"), rule)[2],
        "AFW, whole": load(f"ibug:{data / 'afw_photos' / 'labels.xml'}"),
        "dlib's photographs": load(f"ibug:{next((data / 'dlib_faces').glob('*.xml'))}"),
    }
    without_faces = [
        (str(path), np.zeros((0, 4), np.float32)) for path in sorted((data / "photos" / "no_face").iterdir())
    ]
    for detector in options.detectors.split(","):
        for name, faces in sets.items():
            report(name, photographs(faces, options.sample), detector)
        report("photographs without a face", without_faces, detector)


if __name__ == "__main__":
    main()
