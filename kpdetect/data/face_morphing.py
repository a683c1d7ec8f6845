"""Owns blended faces: pictures of people who do not exist, each with the shape and the looks of two who are labelled.

A small set shows few people. Between two faces that look the same way lies another that nobody photographed: points
between theirs, and the skin, eyes and mouth of one, of the other, or of both. A smooth warp takes each picture's points
there (thin-plate splines: Bookstein, *Principal warps*, PAMI 1989), so that the labels fit as the given ones do. But no
warp opens an eye: between a shut one and an open one lies a stretched lid that is labelled half open. So the two must
be alike in their eyes and mouths too.
"""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, Matrix, apply_matrix, fit_similarity, tight_box
from kpdetect.core.images import Pixels, as_rgb, cv2, warp_crop
from kpdetect.data.annotations import Annotations

Doubles = npt.NDArray[np.float64]

MARGIN = 1.9
"""Of a blend's picture: room for the crops of training, which are shifted, turned and enlarged."""
LARGEST_SIDE = 320  # pixels of a blend's picture; smaller where the first face is
CANDIDATES, NEAREST = 800, 12
"""The other face is one of the 12 that are most alike, of 800 drawn: heads that are turned alike."""
PARTS_WEIGHT = 0.3
"""Of each of the scheme's groups in the likeness, where the whole face has 1: by 0.3, eyes that are open by less than a
fifth of their length meet others that are open by 0.08 more (median); by the whole face alone, by 0.18 more."""
SHAPE_RANGE = (-0.25, 0.85)
"""The other's share of the shape: most are between the two, some go a little the other way."""
OWN_SHARE, OTHERS_SHARE = 0.3, 0.35
"""How many blends have the looks of the first face alone, and of the other alone; the rest have both's. A mean of two
pictures is softer than either, and so the fewer."""
MIXED_LOOKS = (0.25, 0.75)

GRID = 25  # the warp is smooth: it is computed at 25 x 25 places, and interpolated between them
STIFFNESS = 1e-4  # a label that is a little off moves a region, and does not crumple it


@dataclass(frozen=True)
class Morph:
    """Whom a blend is made of.

    Attributes:
        first: The row of the face whose photograph it is.
        other: The row of the face that is mixed in.
        shape: The other's share of the points.
        looks: The other's share of the pixels inside the face.
    """

    first: int
    other: int
    shape: float
    looks: float


def morphed_faces(faces: Annotations, count: int, seed: int = 0) -> Annotations:
    """Faces between two labelled ones; nothing is painted before a picture is read.

    Args:
        faces: Labelled faces of a scheme of 3 points at least. Those with all points visible are blended.
        count: How many, at least 1.
        seed: Another seed gives other blends.

    Returns:
        `count` rows with the name and terms of `faces`; subjects are those of the first face. Paths say which blend it
        is by a hash of all that it is made of, but for the photographs' contents.

    Raises:
        KpdetectError: There are no two subjects with all points visible, the scheme has fewer than 3 points, or boxes
            are whole pictures.
    """
    whole = _usable(faces, count)
    shapes = _shapes(faces)
    morphs = [_draw(faces, shapes, whole, np.random.default_rng((seed, index))) for index in range(count)]
    placed = [_place(faces, morph) for morph in morphs]
    points = np.stack([one.points for one in placed]).astype(np.float32)
    rows = [morph.first for morph in morphs]
    boxes = np.stack([_box(faces.boxes[row], one) for row, one in zip(rows, placed, strict=True)]).astype(np.float32)
    addresses = [_address(faces, morph) for morph in morphs]
    morph_of = dict(zip(addresses, morphs, strict=True))
    return dataclasses.replace(
        faces,
        paths=np.array(addresses),
        keypoints=points,
        visible=np.ones(points.shape[:2], bool),
        boxes=boxes,
        subjects=faces.subjects[rows],
        read=lambda path: _paint(faces, morph_of[path]),
        skipped=0,
    )


def _usable(faces: Annotations, count: int) -> npt.NDArray[np.int64]:
    """The rows that can be blended."""
    if count < 1:
        raise KpdetectError(f"blended faces: expected a whole number of 1 or more, received {count}")
    if faces.schema.num_keypoints < 3 or faces.boxes_around != "face":
        raise KpdetectError(
            f"'{faces.name}': expected face boxes and a scheme of 3 points or more to blend faces by, found boxes "
            f"around the {faces.boxes_around} and {faces.schema.num_keypoints} points"
        )
    extent = np.ptp(faces.keypoints, axis=1).min(axis=1)
    rows = np.flatnonzero(faces.visible.all(axis=1) & (extent > 1))
    subjects = len(np.unique(faces.subjects[rows]))
    if subjects < 2:
        raise KpdetectError(
            f"'{faces.name}': expected faces of two people or more with all points visible to blend, found {subjects}"
        )
    return rows


@dataclass(frozen=True)
class _Shape:
    """A part of all faces, or the whole of them.

    Attributes:
        weight: In the likeness of two faces.
        units: (N, K), each face's points about their middle, as a vector of length 1; a product of two tells likeness.
    """

    weight: float
    units: npt.NDArray[np.complex128]


def _shapes(faces: Annotations) -> list[_Shape]:
    """The whole faces, and the scheme's groups of three points and more."""
    points = np.asarray(faces.keypoints.astype(np.float64) @ (1, 1j), np.complex128)
    parts = [list(part) for part in faces.schema.groups.values() if len(part) >= 3]
    return [_Shape(1.0, _units(points)), *(_Shape(PARTS_WEIGHT, _units(points[:, part])) for part in parts)]


def _units(points: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    centred = points - points.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9))


def _draw(
    faces: Annotations,
    shapes: list[_Shape],
    rows: npt.NDArray[np.int64],
    chance: np.random.Generator,
) -> Morph:
    first = int(chance.choice(rows))
    others = chance.choice(rows, CANDIDATES)
    others = others[faces.subjects[others] != faces.subjects[first]]
    if not len(others):  # of few people, one may have nearly all the rows
        others = rows[faces.subjects[rows] != faces.subjects[first]]
    likeness = sum(shape.weight * np.abs(np.conj(shape.units[others]) @ shape.units[first]) for shape in shapes)
    other = int(chance.choice(others[np.argsort(-np.asarray(likeness))[:NEAREST]]))
    shape, kind = chance.uniform(*SHAPE_RANGE), chance.random()
    mixed = chance.uniform(*MIXED_LOOKS)
    looks = 0.0 if kind < OWN_SHARE else 1.0 if kind < OWN_SHARE + OTHERS_SHARE else mixed
    return Morph(first, other, shape, looks)


@dataclass(frozen=True)
class _Placed:
    """Two faces on one canvas.

    Attributes:
        to_canvas: (3, 3), from the first photograph's pixels.
        other_to_canvas: (3, 3), from the other's: its points lie on the first's as well as turn, size and shift can.
        first, other: (K, 2), the two faces' points there.
        points: (K, 2), the blend's.
        side: The canvas's, in pixels.
    """

    to_canvas: Matrix
    other_to_canvas: Matrix
    first: Doubles
    other: Doubles
    points: Doubles
    side: int


def _place(faces: Annotations, morph: Morph) -> _Placed:
    box, points = faces.boxes[morph.first], faces.keypoints[morph.first].astype(np.float64)
    side = max(16, min(round(MARGIN * float((box[2:] - box[:2]).max())), LARGEST_SIDE))
    to_canvas = CropRule((side, side), MARGIN).matrix(box)
    first = apply_matrix(to_canvas, points).astype(np.float64)
    others = faces.keypoints[morph.other].astype(np.float64)
    other_to_canvas = fit_similarity(others, first)
    if other_to_canvas is None:  # points on a line, seen from its end
        other_to_canvas = to_canvas
    other = apply_matrix(other_to_canvas, others).astype(np.float64)
    between = (1 - morph.shape) * first + morph.shape * other
    return _Placed(to_canvas, other_to_canvas, first, other, between, side)


def _box(first_xyxy: Floats, placed: _Placed) -> Doubles:
    """The first face's box on the canvas, changed as the tight box of its points is."""
    own = apply_matrix(placed.to_canvas, first_xyxy.reshape(2, 2)).reshape(4)
    return np.asarray(own + tight_box(placed.points) - tight_box(placed.first), np.float64)


def _address(faces: Annotations, morph: Morph) -> str:
    """A name for the picture, the same only where everything that it is made of is."""
    parts = [f"{morph.shape} {morph.looks}".encode()]
    for row in (morph.first, morph.other):
        parts += [str(faces.paths[row]).encode(), faces.boxes[row].tobytes(), faces.keypoints[row].tobytes()]
    return f"blend://{hashlib.sha256(b' '.join(parts)).hexdigest()[:24]}"


def _paint(faces: Annotations, morph: Morph) -> Pixels:
    placed = _place(faces, morph)
    own = _warped(faces, morph.first, placed.to_canvas, placed.first, placed)
    if not morph.looks:
        return own
    other = _warped(faces, morph.other, placed.other_to_canvas, placed.other, placed)
    inside = _inside(placed.points, placed.side)
    share = (morph.looks * inside)[..., None]
    return np.asarray(np.rint(own * (1 - share) + _as_lit(other, own, inside > 0.5) * share), np.uint8)


def _warped(faces: Annotations, row: int, to_canvas: Matrix, points: Doubles, placed: _Placed) -> Pixels:
    """A face's picture on the canvas, its points moved to the blend's; the canvas's border stays where it is."""
    path, side = str(faces.paths[row]), placed.side
    picture: Pixels = warp_crop(as_rgb(faces.read(path)), to_canvas, (side, side))
    ends = np.linspace(0, side - 1, 5)
    border = np.array([(x, y) for x in ends for y in ends if {x, y} & {ends[0], ends[-1]}])
    ticks = np.linspace(0, side - 1, GRID)
    places = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    found = _spline(np.vstack([placed.points, border]) / side, np.vstack([points, border]), places / side)
    coarse = found.reshape(GRID, GRID, 2).astype(np.float32)
    pixels = np.arange(side, dtype=np.float32) * np.float32((GRID - 1) / (side - 1))
    columns, rows = np.meshgrid(pixels, pixels)
    smooth = cv2.remap(coarse, columns, rows, cv2.INTER_LINEAR)
    return np.asarray(cv2.remap(picture, smooth[..., 0], smooth[..., 1], cv2.INTER_LINEAR), np.uint8)


def _spline(source: Doubles, target: Doubles, places: Doubles) -> Doubles:
    """Where a thin-plate spline that takes points (n, 2) to others brings places (m, 2): (m, 2)."""
    count = len(source)
    flat = np.column_stack([np.ones(count), source])
    bent = _bending(source, source) + STIFFNESS * np.eye(count)
    system = np.block([[bent, flat], [flat.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.vstack([target, np.zeros((3, 2))]))
    at_places = np.column_stack([_bending(places, source), np.ones(len(places)), places])
    return np.asarray(at_places @ weights)


def _bending(places: Doubles, points: Doubles) -> Doubles:
    """(m, n), r^2 ln r of the distances between places and points."""
    squares = ((places[:, None] - points[None]) ** 2).sum(axis=-1)
    return np.asarray(0.5 * squares * np.log(np.maximum(squares, 1e-12)))


def _inside(points: Doubles, side: int) -> npt.NDArray[np.float32]:
    """(side, side), 1 inside the points' convex hull and a little beyond, 0 outside, soft between."""
    mask = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 255)
    reach = max(3, side * 7 // 200) | 1
    wider = cv2.dilate(mask, np.ones((reach, reach), np.uint8))
    soft = cv2.GaussianBlur(wider, (0, 0), max(0.02 * side, 0.5))
    return np.asarray(soft / np.float32(255), np.float32)


def _as_lit(other: Pixels, own: Pixels, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The other's picture, its colours inside the face with the mean and the contrast of the first's."""
    if not inside.any():
        return other.astype(np.float32)
    theirs, ours = other[inside].astype(np.float32), own[inside].astype(np.float32)
    contrast = np.clip(ours.std(axis=0) / np.maximum(theirs.std(axis=0), 1), 0.6, 1.6)
    return np.asarray(np.clip((other - theirs.mean(axis=0)) * contrast + ours.mean(axis=0), 0, 255), np.float32)
