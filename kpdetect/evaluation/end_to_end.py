"""End-to-end evaluation: faces detected in photographs, compared with labelled faces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, apply_matrix, horizontal_flip, intersection_over_union, to_pixels
from kpdetect.core.images import Pixels, as_rgb
from kpdetect.core.progress import progress
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.detection import Face
from kpdetect.evaluation.evaluator import CropPredictions, Evaluation, check_scheme, evaluate_predictions
from kpdetect.modelfile.spec import Spec

FindFaces = Callable[[Pixels], Sequence[Face]]
"""Returns the faces of a photograph (H, W, 3) RGB uint8, such as a `kpdetect.predict.Predictor`."""

MATCH_OVERLAP = 0.3  # least intersection over union of the boxes


def evaluate_end_to_end(find_faces: FindFaces, annotations: Annotations, spec: Spec) -> tuple[Evaluation, Annotations]:
    """Evaluates detection and keypoints together, as a program gets them that has only photographs.

    Each photograph is predicted as it is and mirrored. A labelled face counts as found if the box of a predicted face
    overlaps its box with an intersection over union of at least `MATCH_OVERLAP`. If several do, the one with the
    greatest overlap counts.

    Args:
        find_faces: See `FindFaces`.
        annotations: Labelled faces.
        spec: The model's description.

    Returns:
        The errors of the faces that were found, and these faces. ``missed`` is the number of the others; each counts as
        a failure. The mirrored error covers the faces that are found in the mirrored photograph as well.

    Raises:
        KpdetectError: The model's scheme differs from the data's, a photograph cannot be read, or no face was found.

    Example:
        ```python
        evaluation, found = evaluate_end_to_end(Predictor(), load("ibug:helen"), read_spec("compact"))
        print(100 * evaluation.plain.mean, evaluation.missed)
        ```
    """
    check_scheme(spec, annotations)
    plain = _found(find_faces, annotations, mirrored=False)
    if not plain.hit.any():
        raise KpdetectError(f"'{annotations.name}': the detector found none of its {len(annotations)} faces")
    faces, missed = annotations.take(plain.hit), int((~plain.hit).sum())
    crops, relative, matrices = evaluation_crops(faces, spec.crop, spec.channels, plain.boxes[plain.hit])
    mirrored = None
    if spec.schema.flip_permutation is not None:
        turned_back = _found(find_faces, faces, mirrored=True)
        mirrored = apply_matrix(matrices, turned_back.keypoints) if turned_back.hit.any() else None
    predictions = CropPredictions(
        crops=crops,
        truth=to_pixels(relative, spec.crop.size_hw),
        predicted=apply_matrix(matrices, plain.keypoints[plain.hit]),
        mirrored=mirrored,
    )
    return evaluate_predictions(predictions, faces, spec, missed), faces


@dataclass(frozen=True)
class _Found:
    """Predictions matched to N labelled faces, in pixels of the stored photographs.

    Attributes:
        boxes: (N, 4), tight boxes of the predicted points; the label's box where no face was found.
        keypoints: (N, K, 2); NaN where no face was found.
        hit: (N,), whether a face was found.
    """

    boxes: Floats
    keypoints: Floats
    hit: npt.NDArray[np.bool_]


def _found(find_faces: FindFaces, annotations: Annotations, mirrored: bool) -> _Found:
    found = _Found(
        annotations.boxes.copy(), np.full_like(annotations.keypoints, np.nan), np.zeros(len(annotations), bool)
    )
    label = "detecting, mirrored" if mirrored else "detecting"
    for path in progress(np.unique(annotations.paths).tolist(), label, unit="photo"):
        rows = np.flatnonzero(annotations.paths == path)
        faces = _faces_of(as_rgb(annotations.read(path)), find_faces, mirrored)
        boxes = np.reshape([_box_of(face) for face in faces], (-1, 4))
        overlap = intersection_over_union(annotations.boxes[rows], boxes)
        for row, each in zip(rows, overlap, strict=True):
            if each.max(initial=0) >= MATCH_OVERLAP:
                face = faces[int(each.argmax())]
                found.boxes[row], found.keypoints[row], found.hit[row] = _box_of(face), face.keypoints, True
    return found


def _faces_of(photograph: Pixels, find_faces: FindFaces, mirrored: bool) -> Sequence[Face]:
    """Returns a photograph's faces; faces of the mirrored photograph are mirrored back."""
    if not mirrored:
        return find_faces(photograph)
    back = horizontal_flip(photograph.shape[1])
    return [_turned_back(face, back) for face in find_faces(np.ascontiguousarray(photograph[:, ::-1]))]


def _turned_back(face: Face, matrix: npt.NDArray[np.float64]) -> Face:
    """Mirrors a face."""
    corners = apply_matrix(matrix, _box_of(face).reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    keypoints = apply_matrix(matrix, face.keypoints)[list(face.schema.flip_permutation or ())]
    return Face(keypoints, face.schema, detection_box=box)


def _box_of(face: Face) -> Floats:
    """The tight box of the keypoints, (4,); for a scheme of one point the detector's box, if there was a detector.

    The detector proposes several boxes of one face, and one that overlaps a label may lead to points elsewhere.
    """
    single = face.schema.num_keypoints == 1 and face.detection_box is not None
    return np.asarray(face.detection_box, np.float32) if single else face.box
