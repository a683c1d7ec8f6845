"""Compares kpdetect with dlib and MediaPipe: the same faces and boxes, one thread each, interleaved.

    python -m venv peers && peers/bin/pip install . mediapipe==0.10.21 dlib-bin face_recognition_models "setuptools<81"
    peers/bin/python benchmarks/peers.py [DATA_FOLDER] [--faces N]

dlib and MediaPipe are optional and need an environment of their own, because MediaPipe needs an older NumPy; a missing
one is left out. The faces are the test faces of the shipped model. The data folder, an argument or KPDETECT_DATA,
contains ibug_300w/ and youtube_faces/. Errors are inter-ocular NME: plain, mirrored and point-centred, where the mean
residual of each point, fitted on half of the faces, is removed from the other half. The latter removes differences in
the definition of the points.

dlib and MediaPipe were trained with boxes of their own detectors. Their boxes are therefore the face box made square,
enlarged and moved down by what gives the lowest error on every fifth face; errors are measured on the other faces.

dlib's predictor (of `face_recognition_models`) was trained on 300-W with its test pictures, so it has probably been
trained on the faces used here. MediaPipe's mesh has 468 points of another definition; the 68 nearest are used.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kpdetect.core.geometry import Floats, apply_matrix, invert
from kpdetect.core.images import Pixels, cv2, warp_crop
from kpdetect.core.schema import IBUG68
from kpdetect.data import Annotations, load, split_by_rule
from kpdetect.evaluation.latency.peers import MESH_CROP, dlib_predictor, mediapipe_mesh
from kpdetect.evaluation.metrics import nme_per_face
from kpdetect.modelfile import bundle
from kpdetect.predict import Predictor

Predict = Callable[[Pixels, Floats], Floats]
"""Takes a photograph (H, W, 3) RGB uint8 and a face box (4,); returns keypoints (68, 2) in its pixels."""

BOX_SCALES = (0.85, 0.95, 1.05, 1.15, 1.25)
BOX_DROPS = (-0.15, -0.1, -0.05, 0.0, 0.05)  # shares of the side of the box, downwards
FIT_EVERY = 5
TIMED_FACES = 200

MESH_POINTS = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # jaw
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),  # mouth
)
"""For each point of ``ibug68`` the vertex of MediaPipe's mesh that is nearest on its canonical face."""


def kpdetect_predict() -> Predict:
    """The shipped model."""
    predictor = Predictor()
    return lambda photograph, box: predictor(photograph, [box])[0].keypoints


def dlib_predict() -> Predict:
    """The 68 points of dlib, which cuts no crop."""
    return dlib_predictor()[0]


def mediapipe_predict() -> Predict:
    """MediaPipe's mesh on an upright crop."""
    mesh, _ = mediapipe_mesh()

    def predict(photograph: Pixels, box: Floats) -> Floats:
        matrix = MESH_CROP.matrix(box[None])[0]
        points = mesh(warp_crop(photograph, matrix, MESH_CROP.size_hw))[list(MESH_POINTS)]
        return apply_matrix(invert(matrix), points - 0.5)  # pixel centres are half integers there

    return predict


PEERS: dict[str, Callable[[], Predict]] = {
    "kpdetect": kpdetect_predict,
    "dlib": dlib_predict,
    "MediaPipe": mediapipe_predict,
}


def moved(boxes: Floats, scale: float, drop: float) -> Floats:
    """Boxes (N, 4) made square by their longer side, scaled, and moved down by a share of that side."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    center[:, 1] += drop * 2 * half[:, 0]
    return np.asarray(np.concatenate([center - scale * half, center + scale * half], axis=1), np.float32)


@dataclasses.dataclass(frozen=True)
class Set:
    """Test faces with their photographs in memory, plain and mirrored."""

    faces: Annotations
    photographs: list[Pixels]
    mirrored: bool = False

    def mirror(self) -> "Set":
        """The mirrored photographs with their labels."""
        widths = np.array([photograph.shape[1] for photograph in self.photographs], np.float32)[:, None]
        keypoints = self.faces.keypoints[:, list(IBUG68.flip_permutation or ())].copy()
        keypoints[..., 0] = widths - 1 - keypoints[..., 0]
        boxes = self.faces.boxes.copy()
        boxes[:, [0, 2]] = widths - 1 - boxes[:, [2, 0]]
        faces = dataclasses.replace(self.faces, keypoints=keypoints, boxes=boxes)
        return Set(faces, [np.ascontiguousarray(photograph[:, ::-1]) for photograph in self.photographs], True)

    def take(self, rows: np.ndarray) -> "Set":
        """Some of the faces."""
        return Set(self.faces.take(rows), [self.photographs[row] for row in np.flatnonzero(rows)], self.mirrored)

    def keypoints(self, predict: Predict, scale: float, drop: float) -> Floats:
        """The keypoints (N, 68, 2) that a program predicts."""
        boxes = moved(self.faces.boxes, scale, drop)
        return np.stack([predict(photograph, box) for photograph, box in zip(self.photographs, boxes, strict=True)])

    def error(self, points: Floats) -> float:
        """Mean inter-ocular NME, in per cent."""
        return float(100 * np.nanmean(nme_per_face(self.faces.keypoints, points, self.faces.visible, IBUG68, 1.0)))

    def point_centred(self, points: Floats) -> float:
        """The error without the mean residual of each point, which is fitted on the other half of the faces."""
        truth = self.faces.keypoints
        size = IBUG68.normalizers(truth, 1.0)[:, None, None]
        residual, half = (points - truth) / size, np.arange(len(truth)) % 2 == 0
        corrected = points.copy()
        for fit, rest in ((half, ~half), (~half, half)):
            corrected[rest] -= residual[fit].mean(axis=0) * size[rest]
        return self.error(corrected)


def test_faces(spec: str, rule: dict[str, object], most: int | None) -> Set:
    """The test faces of a data set; `most` limits their number."""
    faces = split_by_rule(load(spec), rule)[2]
    if most is not None:
        faces = faces.take(np.linspace(0, len(faces) - 1, min(most, len(faces))).astype(int))
    return Set(faces, [faces.read(path) for path in faces.paths.tolist()])


def best_box(predict: Predict, fit: Set) -> tuple[float, float]:
    """The scale and the shift of the face box with the lowest error of a program."""
    return min(itertools.product(BOX_SCALES, BOX_DROPS), key=lambda choice: fit.error(fit.keypoints(predict, *choice)))


def measure(name: str, faces: Set, predictors: dict[str, Predict]) -> None:
    """Prints a table of errors and times on one set."""
    every_fifth = np.arange(len(faces.faces)) % FIT_EVERY == 0
    fit, test = faces.take(every_fifth), faces.take(~every_fifth)
    mirrored = test.mirror()
    print(f"\n{name}: {len(test.faces)} test faces, boxes: truth, inter-ocular NME; one thread")
    print(f"{'':10} {'plain':>8} {'mirrored':>9} {'mean':>7} {'point-centred':>14}  box")
    boxes = {}
    for peer, predict in predictors.items():
        boxes[peer] = (1.0, 0.0) if peer == "kpdetect" else best_box(predict, fit)
        plain, turned = test.keypoints(predict, *boxes[peer]), mirrored.keypoints(predict, *boxes[peer])
        errors = test.error(plain), mirrored.error(turned)
        centred = (test.point_centred(plain) + mirrored.point_centred(turned)) / 2
        words = f"x {boxes[peer][0]:g}, {100 * boxes[peer][1]:+g} % down"
        print(f"{peer:10} {errors[0]:7.2f} % {errors[1]:7.2f} % {sum(errors) / 2:5.2f} % {centred:12.2f} %  {words}")
    print_times(test, predictors, boxes)


def print_times(test: Set, predictors: dict[str, Predict], boxes: dict[str, tuple[float, float]]) -> None:
    """Prints the time from a decoded photograph and a box to the keypoints; the programs take turns."""
    seconds: dict[str, list[float]] = {peer: [] for peer in predictors}
    moved_boxes = {peer: moved(test.faces.boxes, *boxes[peer]) for peer in predictors}
    for row in np.resize(np.arange(len(test.faces)), TIMED_FACES).tolist():
        for peer, predict in predictors.items():
            start = time.perf_counter()
            predict(test.photographs[row], moved_boxes[peer][row])
            seconds[peer].append(time.perf_counter() - start)
    medians = ", ".join(f"{peer} {1000 * statistics.median(times):.2f} ms" for peer, times in seconds.items())
    print(f"median time per face, crop included: {medians}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--faces", type=int, help="most faces of each set")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    if not rule.get("test_fraction"):
        parser.error(f"the shipped model has no test split: {rule}")
    cv2.setNumThreads(1)
    predictors = {}
    for peer, make in PEERS.items():
        try:
            predictors[peer] = make()
        except ModuleNotFoundError as error:
            print(f"{peer}: left out, {error.name} is not installed (see the top of this file)", file=sys.stderr)
    folder = Path(arguments.data)
    common = f"ibug:{folder / 'ibug_300w' / 'helen'},ibug:{folder / 'ibug_300w' / 'lfpw'}"
    measure("300-W (HELEN, LFPW)", test_faces(common, rule, arguments.faces), predictors)
    measure("YouTube Faces", test_faces(f"youtube-faces:{folder / 'youtube_faces'}", rule, arguments.faces), predictors)


if __name__ == "__main__":
    main()
