"""Measures what the Haar detector finds, what is left when the model's own score has judged it, and all of prediction.

    python benchmarks/detection.py [DATA_FOLDER] [--sample N]

Recall and false boxes a photograph, by how many votes of the cascades make a face, before and after the score; and as
`Predictor` finds faces, which looks for large ones itself where the cascades find none. The data folder is that of
KPDETECT_DATA: youtube_faces/, ibug_300w/, afw_photos/, dlib_faces/, photos/. Pictures of YouTube Faces and 300-W are
those kept out of the shipped model's training; each shows one labelled face with little around it. The AFW photographs
are whole, with several faces, and not every face in them is labelled: what stands beside the labels there is not all
mistaken. A face is found by a box of intersection over union 0.4; below 0.3 with every label, a box stands beside.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpdetect import bundle
from kpdetect.datasets import Annotations, load, split_by_rule
from kpdetect.faces import HaarDetector, merge_boxes
from kpdetect.geometry import Floats, intersection_over_union, tight_box
from kpdetect.images import Pixels, read_image
from kpdetect.predict import Predictor

FOUND, BESIDE = 0.4, 0.3
VOTES = (3, 5, 10, 20)
SCORES = (0.0, 0.5)


@dataclass(frozen=True)
class Seen:
    """What was found on one photograph.

    Attributes:
        truth: (N, 4), the labelled faces.
        boxes: (M, 4), what any vote found.
        votes: (M,).
        scores: (M,), the model's.
        predicted: (P, 4), the tight boxes of the points of `Predictor`.
    """

    truth: Floats
    boxes: Floats
    votes: Floats
    scores: Floats
    predicted: Floats

    def count(self, min_votes: float, min_score: float) -> tuple[int, int]:
        """Labelled faces that are found by the detector, and boxes that stand beside them."""
        return self.count_of(self.boxes[(self.votes >= min_votes) & (self.scores >= min_score)])

    def count_of(self, kept: Floats) -> tuple[int, int]:
        """Labelled faces that boxes (n, 4) find, and boxes that stand beside them."""
        overlap = intersection_over_union(self.truth, kept)
        found = int((overlap.max(axis=1, initial=0) >= FOUND).sum())
        return found, int((overlap.max(axis=0, initial=0) < BESIDE).sum())


def look(photograph: Pixels, truth: Floats, detector: HaarDetector, predictor: Predictor) -> Seen:
    """Every box that a cascade votes for, with its score; and the faces that a predictor gives."""
    found = detector.squares(photograph)
    boxes = np.concatenate([cascade.face_boxes(squares) for cascade, squares, _ in found])
    merged, sums = merge_boxes(boxes, np.concatenate([votes for _, _, votes in found]))
    faces = predictor(photograph, merged)
    scores = np.array([1.0 if face.score is None else face.score for face in faces], np.float32)
    points = [face.keypoints for face in predictor(photograph)]
    return Seen(truth, merged, sums, scores, tight_box(points) if points else np.zeros((0, 4), np.float32))


def photographs(faces: Annotations, sample: int) -> list[tuple[str, Floats]]:
    """At most `sample` photographs, evenly over the set, with the boxes of their faces."""
    paths = np.unique(faces.paths)
    chosen = paths[np.unique(np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int))]
    return [(str(path), faces.boxes[faces.paths == path]) for path in chosen]


def report(name: str, photos: list[tuple[str, Floats]], detector: HaarDetector, predictor: Predictor) -> None:
    """Prints a set's recall and false boxes."""
    seen = [look(read_image(path), truth, detector, predictor) for path, truth in tqdm(photos, desc=name, unit="photo")]
    labelled = sum(len(one.truth) for one in seen)
    print(f"\n{name}: {labelled} labelled faces in {len(seen)} photographs")
    for min_votes in VOTES:
        told = [_told([one.count(min_votes, min_score) for one in seen], labelled) for min_score in SCORES]
        print(f"  {min_votes:3} votes: {told[0]}; scored 0.5 and more: {told[1]}")
    print(f"  Predictor: {_told([one.count_of(one.predicted) for one in seen], labelled)}")


def _told(counts: list[tuple[int, int]], labelled: int) -> str:
    found, beside = np.array(counts).sum(axis=0)
    recall = f"{100 * found / labelled:5.1f} % found, " if labelled else ""
    return f"{recall}{beside / len(counts):.3f} beside a photograph"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA", "../shared/data"))
    parser.add_argument("--sample", type=int, default=150, help="photographs of each set at most")
    options = parser.parse_args()
    data, detector, predictor = Path(options.folder), HaarDetector(), Predictor()
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    sets = {
        "YouTube Faces, test people": split_by_rule(load(f"youtube-faces:{data / 'youtube_faces'}"), rule)[2],
        "300-W, test photographs": split_by_rule(load(f"ibug:{data / 'ibug_300w'}"), rule)[2],
        "AFW, whole": load(f"ibug:{data / 'afw_photos' / 'labels.xml'}"),
        "dlib's photographs": load(f"ibug:{next((data / 'dlib_faces').glob('*.xml'))}"),
    }
    for name, faces in sets.items():
        report(name, photographs(faces, options.sample), detector, predictor)
    nobody = [(str(path), np.zeros((0, 4), np.float32)) for path in sorted((data / "photos" / "no_face").iterdir())]
    report("photographs without a face", nobody, detector, predictor)


if __name__ == "__main__":
    main()
