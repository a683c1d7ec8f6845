"""Owns `synthetic`, the labelled faces that need no download: drawn from a statistical shape, the same on every run."""

import re

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, tight_box, to_pixels
from kpdetect.core.images import Pixels
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations
from kpdetect.data.synthetic.appearance import Look, draw_look
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
    photograph,
)
from kpdetect.data.synthetic.shape import PlacedFace, place_face

TERMS = "drawn by kpdetect, no photograph"
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048  # below, a face is a smudge; above, a mistake

_ADDRESS = re.compile(r"synthetic://(\d+)/(\d+)\?size=(\d+)")


def annotations(count: int, seed: int = 0, size: int = 128) -> Annotations:
    """Labelled drawn faces; nothing is drawn before a picture is read. Fewer faces are the first of more.

    Args:
        count: How many, at least 1.
        seed: Another seed gives other people.
        size: The pictures' side in pixels, 32 to 2048; the same faces at any size.

    Returns:
        `count` rows, each a person of its own, with addresses such as ``synthetic://0/41?size=128`` for paths.

    Raises:
        KpdetectError: An argument is out of its range.
    """
    _check_whole("number of faces", count, 1)
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
    """Draws one face; the same for the same seed and index, in whatever order.

    Args:
        seed: The set's seed.
        index: The face's place in the set, from 0.
        size: The picture's side in pixels, 32 to 2048.

    Returns:
        The picture (size, size, 3) uint8 RGB, and its points (68, 2) float32 in pixels.

    Raises:
        KpdetectError: An argument is out of its range.
    """
    _check(seed, index, size)
    placed = place_face(seed, index)
    return paint(placed, draw_look(seed, index), size), _pixels(placed, size)


def render_address(address: str) -> Pixels:
    """Draws the face of an address such as ``synthetic://0/41?size=128``.

    Raises:
        KpdetectError: It is no such address.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise KpdetectError(f"expected an address such as synthetic://0/41?size=128, received '{address}'")
    seed, index, size = (int(number) for number in match.groups())
    return render(seed, index, size)[0]


def _pixels(placed: PlacedFace, size: int) -> Floats:
    return to_pixels(placed.points, (size, size))


def paint(placed: PlacedFace, look: Look, size: int) -> Pixels:
    """Paints a face from back to front, at twice the size.

    Args:
        placed: Where its points are.
        look: What it looks like.
        size: The picture's side in pixels.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    random = np.random.default_rng(look.texture_seed)
    head = head_on_canvas(placed, 2 * size)
    canvas = paint_background(2 * size, look, random)
    paint_back_hair(canvas, head, look)
    paint_body(canvas, head, look)
    lit = _paint_face(canvas, head, look, random)
    paint_hair(canvas, lit, head, look, random)
    light_head(canvas, lit, head.to_image, head.face, look)
    paint_glasses(canvas, head, look)
    return photograph(canvas, look, random)


def _paint_face(canvas: Pixels, head: Head, look: Look, random: np.random.Generator) -> Pixels:
    """Skin and features; gives how much light falls where, (H, W)."""
    lit = np.zeros(canvas.shape[:2], np.uint8)
    hidden = look.hair_style == "long"
    for part in (*(() if hidden else ears(head)), face_outline(head)):
        fill(canvas, part, look.skin)
        fill(lit, part, 255)
    paint_features(canvas, head, look, random)
    for bright in (slice(36, 42), slice(42, 48), slice(60, 68)):
        fill(lit, head.points[bright], 110)  # eyes and teeth are wet: sockets and lips do not darken them much
    return lit


def _check(seed: int, index: int, size: int) -> None:
    _check_whole("seed", seed, 0)
    _check_whole("index", index, 0)
    _check_whole("size", size, SMALLEST_SIZE, LARGEST_SIZE)


def _check_whole(what: str, value: int, least: int, most: int | None = None) -> None:
    if not isinstance(value, (int, np.integer)) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise KpdetectError(f"synthetic faces: expected a whole {what} {span}, received {value!r}")
