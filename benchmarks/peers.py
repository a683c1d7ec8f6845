"""Measures kpdetect beside dlib and MediaPipe: the same faces, the same boxes, one thread each, in one interleaved run.

    python -m venv peers && peers/bin/pip install . mediapipe==0.10.21 dlib-bin face_recognition_models "setuptools<81"
    peers/bin/python benchmarks/peers.py [DATA_FOLDER] [--faces N]

The peers are optional, in an environment of their own, for MediaPipe wants an older NumPy; what is missing is named and
left out. The data folder is that of KPDETECT_DATA; the faces are those held out as test when the shipped model was
trained. Errors are inter-ocular NME, plain, mirrored and point-centred: each point's mean residual is fitted on one
half of the faces and taken out of the other's, which is what is left where two schemes place a point differently.

Each peer was trained with boxes of its own detector. So that none suffers from ours, the box that it gets is the face
box made square, enlarged and moved down as suits it best on every fifth face; its errors are told on the others.

dlib's predictor (of `face_recognition_models`) was trained on 300-W, with its test pictures, and has probably seen the
faces of 300-W here. MediaPipe's mesh has 468 points of a definition of its own; 68 are picked that lie nearest.
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

Mark = Callable[[Pixels, Floats], Floats]
"""A photograph (H, W, 3) RGB uint8 and a face box (4,) to points (68, 2) in its pixels."""

BOX_SCALES = (0.85, 0.95, 1.05, 1.15, 1.25)
BOX_DROPS = (-0.15, -0.1, -0.05, 0.0, 0.05)  # of the box's height, downwards
FIT_EVERY = 5
TIMED_FACES = 200

MESH_POINTS = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # jaw
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),  # mouth
)
"""Of MediaPipe's mesh, for each of iBUG's points the vertex that lies nearest on its canonical face."""


def kpdetect_marker() -> Mark:
    """The shipped model."""
    predictor = Predictor()
    return lambda photograph, box: predictor(photograph, [box])[0].keypoints


def dlib_marker() -> Mark:
    """The 68 points of dlib, which crops for itself."""
    return dlib_predictor()[0]


def mediapipe_marker() -> Mark:
    """MediaPipe's mesh, fed with an upright crop."""
    mesh, _ = mediapipe_mesh()

    def mark(photograph: Pixels, box: Floats) -> Floats:
        matrix = MESH_CROP.matrix(box[None])[0]
        points = mesh(warp_crop(photograph, matrix, MESH_CROP.size_hw))[list(MESH_POINTS)]
        return apply_matrix(invert(matrix), points - 0.5)  # the mesh counts from the pixels' corners

    return mark


PEERS: dict[str, Callable[[], Mark]] = {
    "kpdetect": kpdetect_marker,
    "dlib": dlib_marker,
    "MediaPipe": mediapipe_marker,
}


def moved(boxes: Floats, scale: float, drop: float) -> Floats:
    """Boxes (N, 4) made square by their longer side, enlarged, and moved down by a share of that side."""
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
        """The same faces in a mirror."""
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

    def marks(self, mark: Mark, scale: float, drop: float) -> Floats:
        """A peer's points of every face."""
        boxes = moved(self.faces.boxes, scale, drop)
        return np.stack([mark(photograph, box) for photograph, box in zip(self.photographs, boxes, strict=True)])

    def error(self, points: Floats) -> float:
        """Mean inter-ocular NME, in per cent."""
        return float(100 * np.nanmean(nme_per_face(self.faces.keypoints, points, self.faces.visible, IBUG68, 1.0)))

    def point_centred(self, points: Floats) -> float:
        """The error with each point's mean residual taken out, fitted on one half and told of the other, both ways."""
        truth = self.faces.keypoints
        size = IBUG68.normalizers(truth, 1.0)[:, None, None]
        residual, half = (points - truth) / size, np.arange(len(truth)) % 2 == 0
        corrected = points.copy()
        for fit, told in ((half, ~half), (~half, half)):
            corrected[told] -= residual[fit].mean(axis=0) * size[told]
        return self.error(corrected)


def test_faces(spec: str, rule: dict[str, object], most: int | None) -> Set:
    """The faces of a SPEC that the shipped model was not trained on."""
    faces = split_by_rule(load(spec), rule)[2]
    if most is not None:
        faces = faces.take(np.linspace(0, len(faces) - 1, min(most, len(faces))).astype(int))
    return Set(faces, [faces.read(path) for path in faces.paths.tolist()])


def best_box(mark: Mark, fit: Set) -> tuple[float, float]:
    """The enlargement and drop of the face box at which a peer errs least."""
    return min(itertools.product(BOX_SCALES, BOX_DROPS), key=lambda choice: fit.error(fit.marks(mark, *choice)))


def measure(name: str, faces: Set, markers: dict[str, Mark]) -> None:
    """Prints a table of errors and times on one set."""
    every_fifth = np.arange(len(faces.faces)) % FIT_EVERY == 0
    fit, test = faces.take(every_fifth), faces.take(~every_fifth)
    mirrored = test.mirror()
    print(f"\n{name}: {len(test.faces)} faces not trained on, boxes: truth, inter-ocular NME; one thread")
    print(f"{'':10} {'plain':>8} {'mirrored':>9} {'mean':>7} {'point-centred':>14}  box")
    boxes = {}
    for peer, mark in markers.items():
        boxes[peer] = (1.0, 0.0) if peer == "kpdetect" else best_box(mark, fit)
        plain, turned = test.marks(mark, *boxes[peer]), mirrored.marks(mark, *boxes[peer])
        errors = test.error(plain), mirrored.error(turned)
        centred = (test.point_centred(plain) + mirrored.point_centred(turned)) / 2
        words = f"x {boxes[peer][0]:g}, {100 * boxes[peer][1]:+g} % down"
        print(f"{peer:10} {errors[0]:7.2f} % {errors[1]:7.2f} % {sum(errors) / 2:5.2f} % {centred:12.2f} %  {words}")
    print_times(test, markers, boxes)


def print_times(test: Set, markers: dict[str, Mark], boxes: dict[str, tuple[float, float]]) -> None:
    """From a photograph in memory and a box to its points, the peers in turn on each face."""
    seconds: dict[str, list[float]] = {peer: [] for peer in markers}
    moved_boxes = {peer: moved(test.faces.boxes, *boxes[peer]) for peer in markers}
    for row in np.resize(np.arange(len(test.faces)), TIMED_FACES).tolist():
        for peer, mark in markers.items():
            start = time.perf_counter()
            mark(test.photographs[row], moved_boxes[peer][row])
            seconds[peer].append(time.perf_counter() - start)
    told = ", ".join(f"{peer} {1000 * statistics.median(times):.2f} ms" for peer, times in seconds.items())
    print(f"median time a face, crop included: {told}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--faces", type=int, help="at most so many of each set")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data folder, or set KPDETECT_DATA")
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    if not rule.get("test_fraction"):
        parser.error(f"the shipped model keeps no test part: its split is {rule}")
    cv2.setNumThreads(1)
    markers = {}
    for peer, make in PEERS.items():
        try:
            markers[peer] = make()
        except ModuleNotFoundError as error:
            print(f"{peer}: left out, for {error.name} is not installed (see the top of this file)", file=sys.stderr)
    folder = Path(arguments.data)
    common = f"ibug:{folder / 'ibug_300w' / 'helen'},ibug:{folder / 'ibug_300w' / 'lfpw'}"
    measure("300-W (HELEN, LFPW)", test_faces(common, rule, arguments.faces), markers)
    measure("YouTube Faces", test_faces(f"youtube-faces:{folder / 'youtube_faces'}", rule, arguments.faces), markers)


if __name__ == "__main__":
    main()
