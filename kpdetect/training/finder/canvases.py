"""Composes training pictures for the face finder from labelled faces and pieces of background.

Keypoint data sets show one face per picture with little around it. A canvas combines several faces of different sizes
with pieces of background, which are cut from the same photographs beside the faces.
"""

from dataclasses import dataclass

import numpy as np

from kpdetect.core.geometry import (
    Floats,
    Matrix,
    apply_matrix,
    horizontal_flip,
    rotation,
    scaling,
    tight_box,
    translation,
)
from kpdetect.core.images import Pixels, cv2, warp_crop
from kpdetect.data import Annotations
from kpdetect.data.crops import visit_photographs

PORTRAIT_SIDE = 128.0  # side of a face in a portrait, in pixels; most faces on canvases are smaller
MIN_FACE_SIDE, MAX_FACE_SIDE = 8.0, 120.0  # longer side of a face on a canvas, in pixels
BACKGROUND_FACE_SIDE = (200.0, 600.0)  # a part of so large a face is background
ROTATION_DEG = 15.0  # standard deviation
MAX_FACES, MAX_PIECES = 8, 16
MAX_ZOOM = 3.0  # of a piece of background; more would only blur it


@dataclass(frozen=True)
class Portrait:
    """A labelled face with its surroundings.

    Attributes:
        levels: The grey photograph (h, w) uint8 and three halvings of it, so that small copies are antialiased.
        keypoints: (K, 2) in pixels of the first level.
        box: (4,) tight box of the keypoints, (x0, y0, x1, y1).

    Example:
        ``portraits_of(load("synthetic:8"))[0].box``
    """

    levels: tuple[Pixels, ...]
    keypoints: Floats
    box: Floats

    @property
    def side(self) -> float:
        """Longer side of the face in pixels of the first level."""
        return float(max(self.box[2:] - self.box[:2]))


@dataclass(frozen=True)
class Canvas:
    """A picture and the faces on it.

    Attributes:
        picture: (side, side) uint8 grey.
        boxes: (N, 4) float32, tight boxes of the faces' keypoints, in pixels.

    Example:
        ``draw_canvas(portraits, np.random.default_rng(0)).boxes`` has a row per face.
    """

    picture: Pixels
    boxes: Floats


def portraits_of(annotations: Annotations) -> list[Portrait]:
    """Reads every labelled face once, at the size that canvases need.

    Raises:
        KpdetectError: No photograph can be read.

    Example:
        >>> portraits = portraits_of(load("ibug:DIR"))  # doctest: +SKIP
        >>> canvas = draw_canvas(portraits, np.random.default_rng(0))  # doctest: +SKIP
    """
    found: dict[int, Portrait] = {}

    def keep(row: int, photograph: Pixels) -> None:
        found[row] = _portrait(photograph, annotations.keypoints[row])

    visit_photographs(annotations, keep, "reading")
    return [found[row] for row in sorted(found)]


def _portrait(photograph: Pixels, keypoints: Floats) -> Portrait:
    box = tight_box(keypoints)
    scale = min(1.0, PORTRAIT_SIDE / float(max(box[2:] - box[:2])))
    size_hw = (max(round(photograph.shape[0] * scale), 1), max(round(photograph.shape[1] * scale), 1))
    first = warp_crop(photograph, scaling(scale), size_hw, 1)[..., 0]
    levels = [np.ascontiguousarray(first)]
    while len(levels) < 4:
        half = (max(levels[-1].shape[1] // 2, 1), max(levels[-1].shape[0] // 2, 1))
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA), np.uint8))
    points = apply_matrix(scaling(scale), keypoints)
    return Portrait(tuple(levels), points, tight_box(points))


def draw_canvas(portraits: list[Portrait], rng: np.random.Generator, side: int = 256) -> Canvas:
    """Composes a random canvas.

    Args:
        portraits: Faces and backgrounds to combine.
        rng: Random generator.
        side: Side of the canvas in pixels.

    Example:
        ``canvas = draw_canvas(portraits_of(load("synthetic:8")), np.random.default_rng(0), side=256)``
    """
    picture = _background(portraits, rng, side)
    for _ in range(rng.integers(MAX_PIECES + 1)):
        _paste_piece(picture, _piece(_choose(portraits, rng), rng), rng)
    boxes: list[Floats] = []
    for _ in range(rng.integers(MAX_FACES + 1)):
        _paste_face(picture, _choose(portraits, rng), boxes, rng)
    return Canvas(_degrade(picture, rng), np.reshape(boxes, (-1, 4)).astype(np.float32))


def _choose(portraits: list[Portrait], rng: np.random.Generator) -> Portrait:
    return portraits[int(rng.integers(len(portraits)))]


def _background(portraits: list[Portrait], rng: np.random.Generator, side: int) -> Pixels:
    """A piece of background, or a part of a very large face, resized to the whole canvas."""
    portrait = _choose(portraits, rng)
    if rng.random() < 0.35:
        zoom = rng.uniform(*BACKGROUND_FACE_SIDE) / portrait.side
        extent_px = max(round(side / zoom), 2)
        source = portrait.levels[0]
        y, x = (int(rng.integers(max(extent - extent_px, 0) + 1)) for extent in source.shape)
        piece = source[y : y + extent_px, x : x + extent_px]
    else:
        piece = _piece(portrait, rng)
    return np.array(cv2.resize(piece, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _piece(portrait: Portrait, rng: np.random.Generator) -> Pixels:
    """A random part of the photograph above, below or beside the face."""
    picture = portrait.levels[int(rng.integers(2))]
    scale = picture.shape[1] / portrait.levels[0].shape[1]
    height, width = picture.shape
    x0, y0, x1, y1 = np.clip(portrait.box * scale, 0, [width, height] * 2).astype(int)
    strips = [picture[:y0], picture[y1 + 2 :], picture[:, :x0], picture[:, x1 + 2 :]]
    strips = [strip for strip in strips if min(strip.shape) >= 8] or [picture[:8, :8]]
    strip = strips[int(rng.integers(len(strips)))]
    extent = [int(rng.integers(8, length + 1)) if length > 8 else length for length in strip.shape]
    y, x = (int(rng.integers(length - part + 1)) for length, part in zip(strip.shape, extent, strict=True))
    return strip[y : y + extent[0], x : x + extent[1]]


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


def _paste_face(picture: Pixels, portrait: Portrait, boxes: list[Floats], rng: np.random.Generator) -> None:
    """Pastes a face with some of its surroundings at a random place, unless it would cover another face."""
    face_side = float(np.exp(rng.uniform(np.log(MIN_FACE_SIDE), np.log(MAX_FACE_SIDE))))
    to_canvas = _random_placement(portrait, face_side, len(picture), rng)
    around = _surroundings(portrait, rng)
    corners = apply_matrix(to_canvas, around[[[0, 1], [2, 1], [2, 3], [0, 3]]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    for box in boxes:
        if (np.minimum(high, box[2:]) > np.maximum(low, box[:2])).all():
            return
    level = int(np.clip(np.floor(np.log2(portrait.side / face_side)), 0, len(portrait.levels) - 1))
    _blend(picture, portrait.levels[level], to_canvas @ _from_level(portrait, level), corners, rng)
    boxes.append(tight_box(apply_matrix(to_canvas, portrait.keypoints)))


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
    center = (portrait.box[:2] + portrait.box[2:]) / 2
    mirror = horizontal_flip(2 * center[0] + 1) if rng.random() < 0.5 else np.eye(3)
    lean = rotation(rng.normal(0, ROTATION_DEG), (float(center[0]), float(center[1])))
    zoom = np.diag([face_side / portrait.side] * 2 + [1.0])
    place = rng.uniform(-0.1, 1.1, 2) * side
    return translation(*place) @ zoom @ translation(*-center) @ lean @ mirror


def _surroundings(portrait: Portrait, rng: np.random.Generator) -> Floats:
    """(4,) box in the photograph: the face and a random share of its surroundings on each side."""
    height, width = portrait.levels[0].shape
    edges = np.array([0, 0, width, height], np.float32) - 0.5
    shares = rng.uniform(0.1, 1.0, 4).astype(np.float32)
    return np.asarray(portrait.box + (edges - portrait.box) * shares, np.float32)


def _degrade(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Random brightness, contrast, gamma, blur, noise and JPEG compression."""
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.5)), np.uint8)
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
