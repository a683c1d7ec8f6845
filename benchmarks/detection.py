"""Measures what the detectors find, what is left when the model's own score has judged it, and all of prediction.

    python benchmarks/detection.py [DATA_FOLDER] [--sample N]

Recall and false boxes a photograph, by how sure a detector must be (the score of the face finder's squares, the votes
of the Haar cascades), before and after the model's score; and as `Predictor` finds faces. The data folder is that of
KPDETECT_DATA: youtube_faces/, ibug_300w/, afw_photos/, dlib_faces/, photos/. Pictures of YouTube Faces and 300-W are
those kept out of training; each shows one labelled face with little around it. The AFW photographs are whole, with
several faces, and not every face in them is labelled: what stands beside the labels there is not all mistaken. A face
is found by a box of intersection over union 0.4; below 0.3 with every label, a box stands beside.
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

FOUND, BESIDE = 0.4, 0.3
SCORES = (0.0, 0.5)
SURE = {"finder": (0.15, 0.25, 0.35, 0.5), "haar": (3, 5, 10, 20)}
"""How sure each detector must be: the face finder of each of its squares, the cascades by the sum of their votes."""


@dataclass(frozen=True)
class Seen:
    """What was found on one photograph.

    Attributes:
        truth: (N, 4), the labelled faces.
        found: By how sure to be: boxes (M, 4), and the model's scores of them (M,).
        predicted: (P, 4), the tight boxes of the points of `Predictor`.
    """

    truth: Floats
    found: dict[float, tuple[Floats, Floats]]
    predicted: Floats

    def count(self, sure: float, min_score: float) -> tuple[int, int]:
        """Labelled faces that are found by the detector, and boxes that stand beside them."""
        boxes, scores = self.found[sure]
        return self.count_of(boxes[scores >= min_score])

    def count_of(self, kept: Floats) -> tuple[int, int]:
        """Labelled faces that boxes (n, 4) find, and boxes that stand beside them."""
        overlap = intersection_over_union(self.truth, kept)
        found = int((overlap.max(axis=1, initial=0) >= FOUND).sum())
        return found, int((overlap.max(axis=0, initial=0) < BESIDE).sum())


def detectors_of(name: str) -> dict[float, Detector]:
    """The detector of a name by how sure it must be."""
    if name == "finder":
        return {sure: FaceFinder(min_score=sure) for sure in SURE[name]}
    return {sure: HaarDetector(min_votes=int(sure)) for sure in SURE[name]}


def look(photograph: Pixels, truth: Floats, detectors: Mapping[float, Detector], predictor: Predictor) -> Seen:
    """What a detector finds however sure it is, with the model's scores; and the faces that a predictor gives."""
    found = {}
    for sure, detector in detectors.items():
        boxes = np.asarray(detector(photograph), np.float32)
        scores = [1.0 if face.score is None else face.score for face in predictor(photograph, boxes)]
        found[sure] = boxes, np.array(scores, np.float32)
    points = [face.keypoints for face in predictor(photograph)]
    return Seen(truth, found, tight_box(points) if points else np.zeros((0, 4), np.float32))


def photographs(faces: Annotations, sample: int) -> list[tuple[str, Floats]]:
    """At most `sample` photographs, evenly over the set, with the boxes of their faces."""
    paths = np.unique(faces.paths)
    chosen = paths[np.unique(np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int))]
    return [(str(path), faces.boxes[faces.paths == path]) for path in chosen]


def report(name: str, photos: list[tuple[str, Floats]], detector: str) -> None:
    """Prints a set's recall and false boxes."""
    predictor = Predictor(detector=None if detector == "finder" else detector)
    detectors = detectors_of(detector)
    progress = tqdm(photos, desc=name, unit="photo")
    seen = [look(read_image(path), truth, detectors, predictor) for path, truth in progress]
    labelled = sum(len(one.truth) for one in seen)
    print(f"\n{name}: {labelled} labelled faces in {len(seen)} photographs, by {detector}")
    for sure in SURE[detector]:
        told = [_told([one.count(sure, min_score) for one in seen], labelled) for min_score in SCORES]
        print(f"  {sure:4} sure: {told[0]}; scored 0.5 and more: {told[1]}")
    print(f"  Predictor: {_told([one.count_of(one.predicted) for one in seen], labelled)}", flush=True)


def _told(counts: list[tuple[int, int]], labelled: int) -> str:
    found, beside = np.array(counts).sum(axis=0)
    recall = f"{100 * found / labelled:5.1f} % found, " if labelled else ""
    return f"{recall}{beside / len(counts):.3f} beside a photograph"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA", "../shared/data"))
    parser.add_argument("--sample", type=int, default=150, help="photographs of each set at most")
    parser.add_argument("--detectors", default="finder,haar", help="which (default: %(default)s)")
    options = parser.parse_args()
    data = Path(options.folder)
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    sets = {
        "YouTube Faces, test people": split_by_rule(load(f"youtube-faces:{data / 'youtube_faces'}"), rule)[2],
        "300-W, test photographs": split_by_rule(load(f"ibug:{data / 'ibug_300w'}"), rule)[2],
        "AFW, whole": load(f"ibug:{data / 'afw_photos' / 'labels.xml'}"),
        "dlib's photographs": load(f"ibug:{next((data / 'dlib_faces').glob('*.xml'))}"),
    }
    nobody = [(str(path), np.zeros((0, 4), np.float32)) for path in sorted((data / "photos" / "no_face").iterdir())]
    for detector in options.detectors.split(","):
        for name, faces in sets.items():
            report(name, photographs(faces, options.sample), detector)
        report("photographs without a face", nobody, detector)


if __name__ == "__main__":
    main()
