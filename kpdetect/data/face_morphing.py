"""Face morphing: new training faces between the shapes and textures of two labelled faces.

A small data set shows few people. A morphed face interpolates the keypoints of two similar faces and mixes the pixels
of both. Thin-plate splines warp each photograph to the new keypoints (Bookstein, *Principal Warps*, IEEE TPAMI 1989),
so the labels stay as accurate as the given ones. A warp cannot open an eye or a mouth: between a closed eye and an open
one it produces a stretched lid. Therefore the two faces must also be similar in the shapes of their parts.
"""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, Matrix, apply_matrix, fit_similarity, tight_box
from kpdetect.core.images import Pixels, as_rgb, cv2, warp_crop
from kpdetect.core.progress import progress
from kpdetect.data.annotations import Annotations

Doubles = npt.NDArray[np.float64]

MARGIN = 1.9
"""Side of a morphed picture over the longer side of the face box, with room for shifted, rotated or scaled crops."""
LARGEST_SIDE = 320  # pixels; pictures of smaller faces are smaller
NUM_CANDIDATES, NUM_NEAREST = 800, 12
"""The second face is one of the 12 most similar of 800 random ones, so that both heads have a similar pose."""
PART_WEIGHT = 0.3
"""Weight of each keypoint group of the schema in the similarity of two faces; the whole face has weight 1. With it, a
face whose eyes are open by less than 0.2 of their width is paired with a face whose eyes are open by 0.08 more
(median); by the whole face alone, by 0.18 more."""
SHAPE_RANGE = (-0.25, 0.85)
"""Range of the second face's weight in the shape. Most shapes lie between the two; negative weights extrapolate."""
FIRST_ONLY_SHARE, OTHER_ONLY_SHARE = 0.3, 0.35
"""Shares of the morphed faces with the texture of the first or of the second face alone. The others mix both textures,
which is less sharp than either."""
MIXED_TEXTURE_RANGE = (0.25, 0.75)  # the second face's weight in a mixed texture

GRID_SIZE = 25  # the warp is smooth: it is computed on a grid of 25 x 25 positions and interpolated
STIFFNESS = 1e-4  # regularisation of the spline: an inaccurate label bends a region without folding it


@dataclass(frozen=True)
class Morph:
    """The two faces of a morphed face and their weights.

    Attributes:
        first: Row of the face whose photograph is the background.
        other: Row of the second face.
        shape: Weight of the second face's keypoints, in `SHAPE_RANGE`; the first face has the rest.
        texture: Weight of the second face's pixels inside the face, in [0, 1].
    """

    first: int
    other: int
    shape: float
    texture: float


def morphed_faces(faces: Annotations, count: int, seed: int = 0) -> Annotations:
    """Returns faces that are morphed from pairs of labelled faces. Pictures are rendered when they are read.

    Args:
        faces: Labelled faces with at least 3 keypoints. Only faces with all keypoints visible are used.
        count: Number of morphed faces, at least 1.
        seed: Random seed. The same faces and seed give the same pictures.

    Returns:
        `count` rows with the name and terms of `faces`, keypoints (count, K, 2) in pixels of the morphed picture, and
        the subject of each first face. A path is ``blend://`` and a hash of the two paths, boxes, labels and weights;
        the contents of the photographs do not enter the hash.

    Raises:
        KpdetectError: `count` is below 1, fewer than two subjects have all keypoints visible, the schema has fewer than
            3 keypoints, or the boxes are whole images.

    Example:
        >>> morphed = morphed_faces(faces, 2 * len(faces))  # doctest: +SKIP
        >>> picture = morphed.read(morphed.paths[0])  # doctest: +SKIP
    """
    usable = _morphable_rows(faces, count)
    shapes = _part_shapes(faces)
    morphs = [
        _sample_morph(faces, shapes, usable, np.random.default_rng((seed, index)))
        for index in progress(range(count), "pairing faces", unit="face")
    ]
    aligned = [_align(faces, morph) for morph in morphs]
    points = np.stack([one.points for one in aligned]).astype(np.float32)
    rows = [morph.first for morph in morphs]
    boxes = np.stack([_box(faces.boxes[row], one) for row, one in zip(rows, aligned, strict=True)]).astype(np.float32)
    addresses = [_address(faces, morph) for morph in morphs]
    morph_of = dict(zip(addresses, morphs, strict=True))
    return dataclasses.replace(
        faces,
        paths=np.array(addresses),
        keypoints=points,
        visible=np.ones(points.shape[:2], bool),
        boxes=boxes,
        subjects=faces.subjects[rows],
        read=lambda path: _render(faces, morph_of[path]),
        skipped=0,
    )


def _morphable_rows(faces: Annotations, count: int) -> npt.NDArray[np.int64]:
    """The rows that can be morphed: all keypoints visible, and more than one pixel wide and high."""
    if count < 1:
        raise KpdetectError(f"morphed faces: expected a count of at least 1, received {count}")
    if faces.schema.num_keypoints < 3 or faces.boxes_around != "face":
        raise KpdetectError(
            f"'{faces.name}': morphing needs face boxes and at least 3 keypoints, received boxes around the "
            f"{faces.boxes_around} and {faces.schema.num_keypoints} keypoints"
        )
    extent = np.ptp(faces.keypoints, axis=1).min(axis=1)
    rows = np.flatnonzero(faces.visible.all(axis=1) & (extent > 1))
    subjects = len(np.unique(faces.subjects[rows]))
    if subjects < 2:
        raise KpdetectError(
            f"'{faces.name}': morphing needs at least 2 subjects with all keypoints visible, received {subjects}"
        )
    return rows


@dataclass(frozen=True)
class _PartShapes:
    """The shapes of one part of all faces, or of the whole faces.

    Attributes:
        weight: Weight in the similarity of two faces.
        unit_vectors: (N, K) complex, each face's centred points ``x + iy``, scaled to norm 1. The absolute inner
            product of two of them is their similarity, independent of position, scale and rotation.
    """

    weight: float
    unit_vectors: npt.NDArray[np.complex128]


def _part_shapes(faces: Annotations) -> list[_PartShapes]:
    """The whole faces and the keypoint groups of the schema with at least three points."""
    points = np.asarray(faces.keypoints.astype(np.float64) @ (1, 1j), np.complex128)
    parts = [list(part) for part in faces.schema.groups.values() if len(part) >= 3]
    return [
        _PartShapes(1.0, _unit_vectors(points)),
        *(_PartShapes(PART_WEIGHT, _unit_vectors(points[:, part])) for part in parts),
    ]


def _unit_vectors(points: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """(N, K) points, centred and scaled to norm 1 per row."""
    centred = points - points.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9))


def _sample_morph(
    faces: Annotations,
    shapes: list[_PartShapes],
    rows: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Morph:
    """A random first face, a random similar face of another subject, and random weights."""
    first = int(rng.choice(rows))
    others = rng.choice(rows, NUM_CANDIDATES)
    others = others[faces.subjects[others] != faces.subjects[first]]
    if not len(others):  # if one subject has nearly all rows, all candidates may be of that subject
        others = rows[faces.subjects[rows] != faces.subjects[first]]
    likeness = sum(
        shape.weight * np.abs(np.conj(shape.unit_vectors[others]) @ shape.unit_vectors[first]) for shape in shapes
    )
    other = int(rng.choice(others[np.argsort(-np.asarray(likeness))[:NUM_NEAREST]]))
    shape, kind = rng.uniform(*SHAPE_RANGE), rng.random()
    mixed = rng.uniform(*MIXED_TEXTURE_RANGE)
    texture = 0.0 if kind < FIRST_ONLY_SHARE else 1.0 if kind < FIRST_ONLY_SHARE + OTHER_ONLY_SHARE else mixed
    return Morph(first, other, shape, texture)


@dataclass(frozen=True)
class _AlignedPair:
    """Two faces on one square canvas.

    Attributes:
        to_canvas: (3, 3), from pixels of the first photograph to pixels of the canvas.
        other_to_canvas: (3, 3), the same for the second photograph: the similarity transform that fits its keypoints to
            those of the first face (least squares).
        first, other: (K, 2), keypoints of the two faces on the canvas.
        points: (K, 2), keypoints of the morphed face on the canvas.
        side: Side of the canvas in pixels.
    """

    to_canvas: Matrix
    other_to_canvas: Matrix
    first: Doubles
    other: Doubles
    points: Doubles
    side: int


def _align(faces: Annotations, morph: Morph) -> _AlignedPair:
    """Places both faces on the canvas and interpolates their keypoints."""
    box, points = faces.boxes[morph.first], faces.keypoints[morph.first].astype(np.float64)
    side = max(16, min(round(MARGIN * float((box[2:] - box[:2]).max())), LARGEST_SIDE))
    to_canvas = CropRule((side, side), MARGIN).matrix(box)
    first = apply_matrix(to_canvas, points).astype(np.float64)
    others = faces.keypoints[morph.other].astype(np.float64)
    other_to_canvas = fit_similarity(others, first)
    if other_to_canvas is None:  # the points coincide
        other_to_canvas = to_canvas
    other = apply_matrix(other_to_canvas, others).astype(np.float64)
    between = (1 - morph.shape) * first + morph.shape * other
    return _AlignedPair(to_canvas, other_to_canvas, first, other, between, side)


def _box(first_xyxy: Floats, aligned: _AlignedPair) -> Doubles:
    """The first face's box on the canvas, moved by the difference of the tight boxes of the keypoints."""
    own = apply_matrix(aligned.to_canvas, first_xyxy.reshape(2, 2)).reshape(4)
    return np.asarray(own + tight_box(aligned.points) - tight_box(aligned.first), np.float64)


def _address(faces: Annotations, morph: Morph) -> str:
    """The address of a morphed picture: a hash of the weights, paths, boxes and keypoints."""
    parts = [f"{morph.shape} {morph.texture}".encode()]
    for row in (morph.first, morph.other):
        parts += [str(faces.paths[row]).encode(), faces.boxes[row].tobytes(), faces.keypoints[row].tobytes()]
    return f"blend://{hashlib.sha256(b' '.join(parts)).hexdigest()[:24]}"


def _render(faces: Annotations, morph: Morph) -> Pixels:
    """(side, side, 3) uint8 RGB."""
    aligned = _align(faces, morph)
    own = _warp_to_shape(faces, morph.first, aligned.to_canvas, aligned.first, aligned)
    if not morph.texture:
        return own
    other = _warp_to_shape(faces, morph.other, aligned.other_to_canvas, aligned.other, aligned)
    inside = _face_mask(aligned.points, aligned.side)
    share = (morph.texture * inside)[..., None]
    return np.asarray(np.rint(own * (1 - share) + _match_colors(other, own, inside > 0.5) * share), np.uint8)


def _warp_to_shape(faces: Annotations, row: int, to_canvas: Matrix, points: Doubles, aligned: _AlignedPair) -> Pixels:
    """Warps a photograph to the canvas so that its keypoints are those of the morphed face; the border stays fixed."""
    path, side = str(faces.paths[row]), aligned.side
    picture: Pixels = warp_crop(as_rgb(faces.read(path)), to_canvas, (side, side))
    ends = np.linspace(0, side - 1, 5)
    border = np.array([(x, y) for x in ends for y in ends if {x, y} & {ends[0], ends[-1]}])
    ticks = np.linspace(0, side - 1, GRID_SIZE)
    positions = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    coarse_map = _thin_plate_spline(
        np.vstack([aligned.points, border]) / side, np.vstack([points, border]), positions / side
    )
    coarse = coarse_map.reshape(GRID_SIZE, GRID_SIZE, 2).astype(np.float32)
    pixels = np.arange(side, dtype=np.float32) * np.float32((GRID_SIZE - 1) / (side - 1))
    columns, rows = np.meshgrid(pixels, pixels)
    smooth = cv2.remap(coarse, columns, rows, cv2.INTER_LINEAR)
    return np.asarray(cv2.remap(picture, smooth[..., 0], smooth[..., 1], cv2.INTER_LINEAR), np.uint8)


def _thin_plate_spline(source: Doubles, target: Doubles, positions: Doubles) -> Doubles:
    """Maps positions (m, 2) by the thin-plate spline that maps source (n, 2) to target (n, 2)."""
    count = len(source)
    linear = np.column_stack([np.ones(count), source])
    bending = _radial_basis(source, source) + STIFFNESS * np.eye(count)
    system = np.block([[bending, linear], [linear.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.vstack([target, np.zeros((3, 2))]))
    at_positions = np.column_stack([_radial_basis(positions, source), np.ones(len(positions)), positions])
    return np.asarray(at_positions @ weights)


def _radial_basis(positions: Doubles, points: Doubles) -> Doubles:
    """(m, n), ``r^2 ln r`` of the distances r between positions and points."""
    squares = ((positions[:, None] - points[None]) ** 2).sum(axis=-1)
    return np.asarray(0.5 * squares * np.log(np.maximum(squares, 1e-12)))


def _face_mask(points: Doubles, side: int) -> npt.NDArray[np.float32]:
    """(side, side), 1 inside the slightly dilated convex hull of the points, 0 outside, with a soft edge."""
    mask = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 255)
    reach = max(3, side * 7 // 200) | 1
    wider = cv2.dilate(mask, np.ones((reach, reach), np.uint8))
    soft = cv2.GaussianBlur(wider, (0, 0), max(0.02 * side, 0.5))
    return np.asarray(soft / np.float32(255), np.float32)


def _match_colors(other: Pixels, own: Pixels, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The second picture with the mean and the standard deviation of the first's colours inside the face."""
    if not inside.any():
        return other.astype(np.float32)
    theirs, ours = other[inside].astype(np.float32), own[inside].astype(np.float32)
    contrast = np.clip(ours.std(axis=0) / np.maximum(theirs.std(axis=0), 1), 0.6, 1.6)
    return np.asarray(np.clip((other - theirs.mean(axis=0)) * contrast + ours.mean(axis=0), 0, 255), np.float32)
