"""Owns measuring prediction as a whole: the faces that are found in photographs, against those that are labelled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, apply_matrix, horizontal_flip, intersection_over_union, to_pixels
from kpdetect.core.images import Pixels, as_rgb
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.detection import Face
from kpdetect.evaluation.evaluator import Evaluation, Looks, check_scheme, evaluation_of
from kpdetect.modelfile.spec import Spec

FindFaces = Callable[[Pixels], Sequence[Face]]
"""A photograph (H, W, 3) RGB uint8 to its faces; such as a `kpdetect.predict.Predictor`."""

MATCH_OVERLAP = 0.3  # intersection over union of the boxes; what overlaps a labelled face by less shows something else


def evaluate_end_to_end(find_faces: FindFaces, annotations: Annotations, spec: Spec) -> tuple[Evaluation, Annotations]:
    """Measures what a program gets that has nothing but photographs.

    Each photograph is marked as it is, and again in a mirror. A labelled face is found where the box of a found one
    overlaps its own by an intersection over union of 0.3; of several, the one that overlaps most counts.

    Args:
        find_faces: See `FindFaces`.
        annotations: Labelled faces.
        spec: The model's description.

    Returns:
        The errors of the faces that were found, of which ``missed`` counts the others, each a failure; and the faces
        that were found. The mirrored error is that of faces that are found in the mirror too.

    Raises:
        KpdetectError: The model's scheme is not the data's, a photograph cannot be read, or no face was found.
    """
    check_scheme(spec, annotations)
    plain = _found(find_faces, annotations, mirrored=False)
    if not plain.hit.any():
        raise KpdetectError(f"'{annotations.name}': none of its {len(annotations)} faces was found")
    faces, missed = annotations.take(plain.hit), int((~plain.hit).sum())
    crops, relative, matrices = evaluation_crops(faces, spec.crop, spec.channels, plain.boxes[plain.hit])
    mirrored = None
    if spec.schema.flip_permutation is not None:
        turned_back = _found(find_faces, faces, mirrored=True)
        mirrored = apply_matrix(matrices, turned_back.keypoints) if turned_back.hit.any() else None
    looks = Looks(
        crops=crops,
        truth=to_pixels(relative, spec.crop.size_hw),
        predicted=apply_matrix(matrices, plain.keypoints[plain.hit]),
        mirrored=mirrored,
    )
    return evaluation_of(looks, faces, spec, missed), faces


@dataclass(frozen=True)
class _Found:
    """What was found of N labelled faces, in pixels of the photographs as they are.

    Attributes:
        boxes: (N, 4), as the detector gave them.
        keypoints: (N, K, 2); NaN where a face was not found.
        hit: (N,), whether it was.
    """

    boxes: Floats
    keypoints: Floats
    hit: npt.NDArray[np.bool_]


def _found(find_faces: FindFaces, annotations: Annotations, mirrored: bool) -> _Found:
    found = _Found(
        annotations.boxes.copy(), np.full_like(annotations.keypoints, np.nan), np.zeros(len(annotations), bool)
    )
    label = f"finding{' mirrored' * mirrored}"
    for path in tqdm(np.unique(annotations.paths).tolist(), label, unit="photo", disable=None):
        rows = np.flatnonzero(annotations.paths == path)
        faces = _faces_of(as_rgb(annotations.read(path)), find_faces, mirrored)
        boxes = np.reshape([_detected_box(face) for face in faces], (-1, 4))
        overlap = intersection_over_union(annotations.boxes[rows], boxes)
        for row, each in zip(rows, overlap, strict=True):
            if each.max(initial=0) >= MATCH_OVERLAP:
                face = faces[int(each.argmax())]
                found.boxes[row], found.keypoints[row], found.hit[row] = _detected_box(face), face.keypoints, True
    return found


def _faces_of(photograph: Pixels, find_faces: FindFaces, mirrored: bool) -> Sequence[Face]:
    """A photograph's faces; those found in a mirror turned back."""
    if not mirrored:
        return find_faces(photograph)
    back = horizontal_flip(photograph.shape[1])
    return [_turned_back(face, back) for face in find_faces(np.ascontiguousarray(photograph[:, ::-1]))]


def _turned_back(face: Face, matrix: npt.NDArray[np.float64]) -> Face:
    """A face as it is in the mirror of the picture that it was found in."""
    corners = apply_matrix(matrix, _detected_box(face).reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    keypoints = apply_matrix(matrix, face.keypoints)[list(face.schema.flip_permutation or ())]
    return Face(keypoints, face.schema, detection_box=box)


def _detected_box(face: Face) -> Floats:
    """The detector's box, or the tight box of the keypoints if there was no detector; (4,)."""
    return face.box if face.detection_box is None else face.detection_box
