"""Composes training pictures for the face finder from labelled faces and pieces of background.

Most data sets show one face per picture with little around it. A canvas combines several faces of different sizes and
rotations, some behind drawn masks and other occluders, with pieces of background: pictures without faces, parts of
photographs beside a face, and things that an earlier finder mistook for faces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import (
    Floats,
    Matrix,
    apply_matrix,
    horizontal_flip,
    intersection_over_union,
    rotation,
    scaling,
    translation,
)
from kpdetect.core.images import Pixels, cv2, warp_crop
from kpdetect.data import Annotations
from kpdetect.data.crops import visit_photographs
from kpdetect.detection.oriented import oriented_boxes, tight_boxes, transform_oriented
from kpdetect.training.finder.occluders import cover

PORTRAIT_SIDE = 128.0  # side of a face in a portrait, in pixels; most faces on canvases are smaller
BACKGROUND_SIDE = 480  # longer side of a picture without faces, in pixels
MIN_FACE_SIDE, MAX_FACE_SIDE = 7.0, 130.0  # longer side of a face on a canvas, in pixels
BACKGROUND_FACE_SIDE = (200.0, 600.0)  # a part of so large a face is background
ROTATION_DEG = 18.0  # standard deviation of most faces; the others are turned by any angle
ANY_ROTATION = 0.5  # share of the faces that are turned by any angle
COVERED = 0.35  # share of the faces with a drawn mask or another occluder
MAX_FACES, MAX_PIECES, MAX_MISTAKES = 8, 16, 4
MAX_ZOOM = 3.0  # of a piece of background; more would only blur it
NEAR = 0.6  # of a face's side: what is pasted around a face of a photograph that may show others


@dataclass(frozen=True)
class Portrait:
    """A face, or something that was mistaken for one, with its surroundings.

    Attributes:
        levels: The grey photograph (h, w) uint8 and three halvings of it, so that small copies are antialiased.
        face: (5,) its oriented box in pixels of the first level; see `kpdetect.detection.oriented`.
        is_face: False for a mistake: it is pasted as a face is, but it is background.
        alone: Whether the photograph is known to show no other face, so that other parts of it are background.
        ignored: (M, 4) boxes that may be other faces, in pixels of the first level.

    Example:
        ``portraits_of(load("synthetic:8"))[0].face``
    """

    levels: tuple[Pixels, ...]
    face: Floats
    is_face: bool = True
    alone: bool = True
    ignored: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    @property
    def side(self) -> float:
        """Longer side of the face in pixels of the first level."""
        return float(max(self.face[2:4]))

    @property
    def box(self) -> Floats:
        """(4,) tight box of the face in pixels of the first level."""
        return np.asarray(tight_boxes(self.face)[0])


@dataclass(frozen=True)
class Canvas:
    """A picture and the faces on it.

    Attributes:
        picture: (side, side) uint8 grey.
        faces: (N, 5) float32, oriented boxes of the faces in pixels; see `kpdetect.detection.oriented`.
        ignored: (M, 4) float32, boxes that may be faces.

    Example:
        ``draw_canvas(portraits, np.random.default_rng(0)).faces`` has a row per face.
    """

    picture: Pixels
    faces: Floats
    ignored: Floats


def portraits_of(annotations: Annotations) -> list[Portrait]:
    """Reads every labelled face once, at the size that canvases need.

    Args:
        annotations: Faces with iBUG's 68 points, one per photograph.

    Raises:
        KpdetectError: No photograph can be read.

    Example:
        >>> portraits = portraits_of(load("ibug:DIR"))  # doctest: +SKIP
        >>> canvas = draw_canvas(portraits, np.random.default_rng(0))  # doctest: +SKIP
    """
    faces = oriented_boxes(np.where(annotations.visible[..., None], annotations.keypoints, np.nan))
    found: dict[int, Portrait] = {}

    def keep(row: int, photograph: Pixels) -> None:
        found[row] = portrait(photograph, faces[row])

    visit_photographs(annotations, keep, "reading")
    return [found[row] for row in sorted(found)]


def portrait(
    photograph: Pixels,
    face: npt.ArrayLike,
    is_face: bool = True,
    alone: bool = True,
    ignored: npt.ArrayLike = (),
) -> Portrait:
    """Makes a portrait: scales a photograph so that the face has at most `PORTRAIT_SIDE` pixels.

    Args:
        photograph: (H, W, C) uint8.
        face: (5,) oriented box in pixels.
        is_face: See `Portrait`.
        alone: See `Portrait`.
        ignored: (M, 4) boxes in pixels.

    Example:
        >>> portrait(np.zeros((300, 300, 3), np.uint8), [150, 150, 256, 256, 0]).side
        128.0
    """
    scale = min(1.0, PORTRAIT_SIDE / float(max(np.asarray(face)[2:4])))
    size_hw = (max(round(photograph.shape[0] * scale), 1), max(round(photograph.shape[1] * scale), 1))
    first = warp_crop(photograph, scaling(scale), size_hw, 1)[..., 0]
    levels = [np.ascontiguousarray(first)]
    while len(levels) < 4:
        half = (max(levels[-1].shape[1] // 2, 1), max(levels[-1].shape[0] // 2, 1))
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA), np.uint8))
    others = apply_matrix(scaling(scale), np.reshape(ignored, (-1, 2, 2))).reshape(-1, 4)
    return Portrait(tuple(levels), transform_oriented(face, scaling(scale))[0], is_face, alone, others)


def draw_canvas(
    portraits: Sequence[Portrait],
    rng: np.random.Generator,
    side: int = 256,
    backgrounds: Sequence[Pixels] = (),
    mistakes: Sequence[Portrait] = (),
) -> Canvas:
    """Composes a random canvas.

    Args:
        portraits: Faces to combine; parts of photographs that show one face alone are background, too.
        rng: Random generator.
        side: Side of the canvas in pixels.
        backgrounds: Grey pictures without a face, (h, w) uint8.
        mistakes: Things that look like faces.

    Example:
        ``canvas = draw_canvas(portraits_of(load("synthetic:8")), np.random.default_rng(0), side=256)``
    """
    picture = _background(portraits, backgrounds, rng, side)
    for _ in range(rng.integers(MAX_PIECES + 1)):
        _paste_piece(picture, _piece(portraits, backgrounds, rng), rng)
    pasted = _Pasted(picture)
    for _ in range(rng.integers(MAX_MISTAKES + 1) if mistakes else 0):
        pasted.add(_choose(mistakes, rng), rng)
    for _ in range(rng.integers(MAX_FACES + 1)):
        pasted.add(_choose(portraits, rng), rng)
    ignored = np.reshape(pasted.ignored, (-1, 4)).astype(np.float32)
    return Canvas(_degrade(picture, rng), np.reshape(pasted.faces, (-1, 5)).astype(np.float32), ignored)


class _Pasted:
    """What is pasted on a picture: the faces, the regions that they fill, and boxes to ignore."""

    def __init__(self, picture: Pixels) -> None:
        self._picture = picture
        self._regions: list[Floats] = []
        self.faces: list[Floats] = []
        self.ignored: list[Floats] = []

    def add(self, portrait: Portrait, rng: np.random.Generator) -> None:
        """Pastes a face with some of its surroundings at a random place, unless it would cover another one."""
        face_side = float(np.exp(rng.uniform(np.log(MIN_FACE_SIDE), np.log(MAX_FACE_SIDE))))
        to_canvas = _random_placement(portrait, face_side, len(self._picture), rng)
        corners = apply_matrix(to_canvas, _surroundings(portrait, rng)[[[0, 1], [2, 1], [2, 3], [0, 3]]])
        region = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        if (intersection_over_union(region, np.reshape(self._regions, (-1, 4))) > 0).any():
            return
        level = int(np.clip(np.floor(np.log2(portrait.side / face_side)), 0, len(portrait.levels) - 1))
        matrix = to_canvas @ _from_level(portrait, level)
        _blend(self._picture, portrait.levels[level], matrix, corners, rng)
        self._regions.append(region)
        for x0, y0, x1, y1 in portrait.ignored:
            moved = apply_matrix(to_canvas, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            self.ignored.append(np.concatenate([moved.min(axis=0), moved.max(axis=0)]))
        if portrait.is_face:
            face = transform_oriented(portrait.face, to_canvas)[0]
            if rng.random() < COVERED:
                cover(self._picture, face, rng)
            self.faces.append(face)


def _choose(portraits: Sequence[Portrait], rng: np.random.Generator) -> Portrait:
    return portraits[int(rng.integers(len(portraits)))]


def _choose_alone(portraits: Sequence[Portrait], rng: np.random.Generator) -> Portrait:
    """A portrait whose photograph shows no other face."""
    for _ in range(100):
        portrait = _choose(portraits, rng)
        if portrait.alone:
            return portrait
    raise ValueError("canvases: expected portraits whose photographs show one face alone, received none in 100")


def _background(
    portraits: Sequence[Portrait], backgrounds: Sequence[Pixels], rng: np.random.Generator, side: int
) -> Pixels:
    """A picture without a face, a piece of background, or a part of a very large face; as large as the canvas."""
    kind = rng.random()
    if kind < 0.25:
        portrait = _choose_alone(portraits, rng)
        zoom = rng.uniform(*BACKGROUND_FACE_SIDE) / portrait.side
        extent_px = max(round(side / zoom), 2)
        source = portrait.levels[0]
        y, x = (int(rng.integers(max(extent - extent_px, 0) + 1)) for extent in source.shape)
        piece = source[y : y + extent_px, x : x + extent_px]
    elif kind < 0.65 and backgrounds:
        source = backgrounds[int(rng.integers(len(backgrounds)))]
        extent_px = int(rng.integers(min(source.shape) // 3, min(source.shape) + 1))
        y, x = (int(rng.integers(extent - extent_px + 1)) for extent in source.shape)
        piece = np.rot90(source[y : y + extent_px, x : x + extent_px], _quarters(rng))
    else:
        piece = _piece(portraits, backgrounds, rng)
    shrinks = piece.shape[0] > side
    resized = cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.array(resized, np.uint8)


def _piece(portraits: Sequence[Portrait], backgrounds: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    """A random part of a picture without a face, or of a photograph above, below or beside its only face."""
    if backgrounds and rng.random() < 0.5:
        strips = [backgrounds[int(rng.integers(len(backgrounds)))]]
        picture = strips[0]
    else:
        portrait = _choose_alone(portraits, rng)
        picture = portrait.levels[int(rng.integers(2))]
        scale = picture.shape[1] / portrait.levels[0].shape[1]
        height, width = picture.shape
        x0, y0, x1, y1 = np.clip(portrait.box * scale, 0, [width, height] * 2).astype(int)
        strips = [picture[:y0], picture[y1 + 2 :], picture[:, :x0], picture[:, x1 + 2 :]]
    strips = [strip for strip in strips if min(strip.shape) >= 8] or [picture[:8, :8]]
    strip = strips[int(rng.integers(len(strips)))]
    extent = [int(rng.integers(8, length + 1)) if length > 8 else length for length in strip.shape]
    y, x = (int(rng.integers(length - part + 1)) for length, part in zip(strip.shape, extent, strict=True))
    return np.rot90(strip[y : y + extent[0], x : x + extent[1]], _quarters(rng))


def _quarters(rng: np.random.Generator) -> int:
    """A number of quarter turns, often none."""
    return int(rng.integers(4)) if rng.random() < 0.5 else 0


def _paste_piece(picture: Pixels, piece: Pixels, rng: np.random.Generator) -> None:
    """Pastes a piece at a random place and size, up to two thirds of the canvas."""
    side = len(picture)
    zoom = min(np.exp(rng.uniform(np.log(24), np.log(side / 1.5))) / max(piece.shape), MAX_ZOOM)
    width, height = (max(round(length * zoom), 2) for length in piece.shape[::-1])
    x, y = int(rng.integers(-width // 2, side - width // 2)), int(rng.integers(-height // 2, side - height // 2))
    small = cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    left, top = max(-x, 0), max(-y, 0)
    visible = picture[max(y, 0) : y + height, max(x, 0) : x + width]
    visible[...] = small[top : top + visible.shape[0], left : left + visible.shape[1]]


def _from_level(portrait: Portrait, level: int) -> Matrix:
    """Matrix from pixels of a level to those of the first, with pixel centres on integers."""
    grown_xy = np.array(portrait.levels[0].shape[::-1]) / portrait.levels[level].shape[::-1]
    matrix = np.diag([*grown_xy, 1.0])
    matrix[:2, 2] = 0.5 * grown_xy - 0.5
    return matrix


def _blend(picture: Pixels, source: Pixels, to_canvas: Matrix, corners: Floats, rng: np.random.Generator) -> None:
    """Pastes the quadrilateral of `corners` (4, 2) onto the canvas, half of the time with soft edges."""
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 4, 0, len(picture))
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 5, 0, len(picture))
    visible = picture[low[1] : high[1], low[0] : high[0]]
    if not visible.size:
        return
    matrix = (translation(*-low) @ to_canvas)[:2]
    size = visible.shape[::-1]
    face = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros(visible.shape, np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners - low).astype(np.int32), 255, cv2.LINE_AA)
    if rng.random() < 0.5:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.03 * max(size) + 0.4)), np.uint8)
    share = mask.astype(np.float32) / 255
    visible[...] = (face * share + visible * (1 - share)).astype(np.uint8)


def _random_placement(portrait: Portrait, face_side: float, side: int, rng: np.random.Generator) -> Matrix:
    """Random matrix from the portrait's first level to the canvas: scale, rotation, mirror and place."""
    center = portrait.face[:2].astype(np.float64)
    mirror = horizontal_flip(2 * center[0] + 1) if rng.random() < 0.5 else np.eye(3)
    any_rotation = rng.random() < ANY_ROTATION
    angle_deg = rng.uniform(-180, 180) if any_rotation else rng.normal(0, ROTATION_DEG)
    lean = rotation(angle_deg, (float(center[0]), float(center[1])))
    zoom = np.diag([face_side / portrait.side] * 2 + [1.0])
    place = rng.uniform(-0.1, 1.1, 2) * side
    return translation(*place) @ zoom @ translation(*-center) @ lean @ mirror


def _surroundings(portrait: Portrait, rng: np.random.Generator) -> Floats:
    """(4,) box in the photograph: the face and a random share of its surroundings on each side."""
    height, width = portrait.levels[0].shape
    edges = np.array([0, 0, width, height], np.float32) - 0.5
    if not portrait.alone:
        reach = NEAR * portrait.side * np.array([-1, -1, 1, 1], np.float32)
        edges = np.clip(portrait.box + reach, edges[[0, 1, 0, 1]], edges[[2, 3, 2, 3]])
    shares = rng.uniform(0.1, 1.0, 4).astype(np.float32)
    return np.asarray(portrait.box + (edges - portrait.box) * shares, np.float32)


def _degrade(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Random brightness, contrast, gamma, blur, noise and JPEG compression."""
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3)), np.uint8)
    values = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.35))
    values = (values - 0.5) * rng.uniform(0.45, 1.25) + 0.5 + rng.normal(0, 0.1)
    picture = np.asarray(cv2.LUT(picture, np.clip(255 * values, 0, 255).astype(np.uint8)), np.uint8)
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0, 10), picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        picture = np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_GRAYSCALE), np.uint8)
    return picture
