"""Synthetic labelled faces: rendered from a statistical shape model, without a download, and the same on every run."""

import re

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, tight_box, to_pixels
from kpdetect.core.images import Pixels
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations
from kpdetect.data.synthetic.appearance import Appearance, sample_appearance
from kpdetect.data.synthetic.brush import fill
from kpdetect.data.synthetic.features import paint_features
from kpdetect.data.synthetic.head import Head, ears, face_outline, head_on_canvas
from kpdetect.data.synthetic.light import light_head
from kpdetect.data.synthetic.scene import (
    paint_back_hair,
    paint_background,
    paint_body,
    paint_glasses,
    paint_hair,
    simulate_camera,
)
from kpdetect.data.synthetic.shape import PlacedFace, place_face

TERMS = "drawn by kpdetect, no photograph"
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048  # pixels; features are not visible in smaller pictures

_ADDRESS = re.compile(r"synthetic://(\d+)/(\d+)\?size=(\d+)")


def annotations(count: int, seed: int = 0, size: int = 128) -> Annotations:
    """Returns labelled synthetic faces. Pictures are rendered when they are read.

    The first n faces do not depend on `count`, and face and labels are the same at any size.

    Args:
        count: Number of faces, at least 1.
        seed: Random seed, at least 0.
        size: Side of the pictures in pixels, 32 to 2048.

    Returns:
        `count` rows of the schema `IBUG68`, each with its own subject. Keypoints (count, 68, 2) are in pixels; all are
        visible. Paths are addresses such as ``synthetic://0/41?size=128``.

    Raises:
        KpdetectError: An argument is out of its range.

    Example:
        >>> faces = annotations(10)
        >>> faces.keypoints.shape, str(faces.paths[3])
        ((10, 68, 2), 'synthetic://0/3?size=128')
        >>> faces.read(faces.paths[3]).shape
        (128, 128, 3)
    """
    _check_integer("number of faces", count, 1)
    _check(seed, 0, size)
    keypoints = np.stack([_pixels(place_face(seed, index), size) for index in range(count)])
    return Annotations(
        schema=IBUG68,
        name="synthetic",
        paths=np.array([f"synthetic://{seed}/{index}?size={size}" for index in range(count)]),
        keypoints=keypoints,
        visible=np.ones(keypoints.shape[:2], bool),
        boxes=tight_box(keypoints),
        subjects=np.array([f"synthetic-{seed}-{index}" for index in range(count)]),
        terms=TERMS,
        read=render_address,
    )


def render(seed: int, index: int, size: int = 128) -> tuple[Pixels, Floats]:
    """Renders one face. The result depends on the arguments alone.

    Args:
        seed: Random seed of the set, at least 0.
        index: Index of the face in the set, from 0.
        size: Side of the picture in pixels, 32 to 2048.

    Returns:
        The picture (size, size, 3) uint8 RGB, and its keypoints (68, 2) float32 in pixels.

    Raises:
        KpdetectError: An argument is out of its range.

    Example:
        >>> picture, keypoints = render(seed=0, index=41)
        >>> picture.shape, keypoints.shape
        ((128, 128, 3), (68, 2))
    """
    _check(seed, index, size)
    placed = place_face(seed, index)
    return paint(placed, sample_appearance(seed, index), size), _pixels(placed, size)


def render_address(address: str) -> Pixels:
    """Renders the face of an address ``synthetic://SEED/INDEX?size=SIZE``; see `render`.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        KpdetectError: The address has another form, or a number is out of its range.

    Example:
        >>> render_address("synthetic://0/41?size=64").shape
        (64, 64, 3)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise KpdetectError(f"expected an address such as synthetic://0/41?size=128, received '{address}'")
    seed, index, size = (int(number) for number in match.groups())
    return render(seed, index, size)[0]


def _pixels(placed: PlacedFace, size: int) -> Floats:
    return to_pixels(placed.points, (size, size))


def paint(placed: PlacedFace, appearance: Appearance, size: int) -> Pixels:
    """Paints a face from back to front at twice the size, and reduces the result.

    Args:
        placed: Keypoints and pose; see `kpdetect.data.synthetic.shape.place_face`.
        appearance: Colours, hair, light and camera; see `kpdetect.data.synthetic.appearance.sample_appearance`.
        size: Side of the picture in pixels.

    Returns:
        (size, size, 3) uint8 RGB.

    Example:
        >>> paint(place_face(0, 41), sample_appearance(0, 41), 64).shape
        (64, 64, 3)
    """
    random = np.random.default_rng(appearance.texture_seed)
    head = head_on_canvas(placed, 2 * size)
    canvas = paint_background(2 * size, appearance, random)
    paint_back_hair(canvas, head, appearance)
    paint_body(canvas, head, appearance)
    lit = _paint_face(canvas, head, appearance, random)
    paint_hair(canvas, lit, head, appearance, random)
    light_head(canvas, lit, head.to_image, head.face, appearance)
    paint_glasses(canvas, head, appearance)
    return simulate_camera(canvas, appearance, random)


def _paint_face(canvas: Pixels, head: Head, appearance: Appearance, random: np.random.Generator) -> Pixels:
    """Paints skin, ears and features. Returns the strength of the shading at each pixel, (H, W) uint8."""
    lit = np.zeros(canvas.shape[:2], np.uint8)
    hidden = appearance.hair_style == "long"
    for part in (*(() if hidden else ears(head)), face_outline(head)):
        fill(canvas, part, appearance.skin)
        fill(lit, part, 255)
    paint_features(canvas, head, appearance, random)
    for bright in (slice(36, 42), slice(42, 48), slice(60, 68)):
        fill(lit, head.points[bright], 110)  # eyes and teeth are shaded less than skin
    return lit


def _check(seed: int, index: int, size: int) -> None:
    _check_integer("seed", seed, 0)
    _check_integer("index", index, 0)
    _check_integer("size", size, SMALLEST_SIZE, LARGEST_SIZE)


def _check_integer(what: str, value: int, least: int, most: int | None = None) -> None:
    if not isinstance(value, (int, np.integer)) or value < least or (most is not None and value > most):
        limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise KpdetectError(f"synthetic faces: expected an integer {what} {limits}, received {value!r}")
