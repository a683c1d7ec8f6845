"""Paints eyes, brows, nose, mouth and beard of a synthetic face. Their outlines pass through the keypoints."""

import numpy as np

from kpdetect.core.images import Pixels
from kpdetect.data.synthetic.appearance import Appearance
from kpdetect.data.synthetic.brush import Doubles, blend, curve, disc, fill, outline, shade, stroke, tint, window_of
from kpdetect.data.synthetic.head import Head

SCLERA = (238.0, 234.0, 230.0)
TEETH = (236.0, 230.0, 216.0)
MOUTH_INSIDE = (66.0, 20.0, 22.0)
TONGUE = (176.0, 84.0, 86.0)

UPPER_LIP = [48, 49, 50, 51, 52, 53, 54]
UPPER_LIP_INSIDE = [60, 61, 62, 63, 64]
LOWER_LIP = [54, 55, 56, 57, 58, 59, 48]
LOWER_LIP_INSIDE = [60, 67, 66, 65, 64]


def paint_features(canvas: Pixels, head: Head, appearance: Appearance, random: np.random.Generator) -> None:
    """Paints all features inside the outline of the face, in place."""
    if appearance.beard or appearance.moustache:
        _paint_beard(canvas, head, appearance, random)
    _paint_nose(canvas, head, appearance)
    _paint_mouth(canvas, head, appearance)
    for eye in (slice(36, 42), slice(42, 48)):
        _paint_eye(canvas, head, eye, appearance)
    _paint_brow(canvas, head, head.points[17:22], appearance, random)
    _paint_brow(canvas, head, head.points[26:21:-1], appearance, random)


def _paint_eye(canvas: Pixels, head: Head, eye: slice, appearance: Appearance) -> None:
    points = head.points[eye]
    rim = outline(points, corners=(0, 3))
    socket = np.vstack([curve(points[:4]) - head.down * 0.08, points[:0:-1][:2]])
    tint(canvas, socket, shade(appearance.skin, 0.55), 0.4, softness=0.03 * head.unit)
    window = window_of(canvas, rim, 2)
    part, corner = canvas[window], np.array([window[1].start, window[0].start])
    mask = np.zeros(part.shape[:2], np.uint8)
    fill(mask, rim - corner, 255)
    blend(part, mask, _eyeball(part, head, points - corner, appearance))
    lid = curve(points[:4])
    stroke(canvas, lid, shade(appearance.skin, 0.75 - 0.6 * appearance.lash_strength), 0.035 * head.unit)
    stroke(canvas, curve(points[[3, 4, 5, 0]]), shade(appearance.skin, 0.72), 0.015 * head.unit)
    stroke(canvas, lid[3:-3] - head.down * 0.065, shade(appearance.skin, 0.62), 0.015 * head.unit)


def _eyeball(part: Pixels, head: Head, points: Doubles, appearance: Appearance) -> Pixels:
    """A picture of the size of `part` with sclera, iris, pupil and a highlight; `points` is (6, 2) in its pixels."""
    ball = np.full_like(part, SCLERA)
    across = points[3] - points[0] if points[3, 0] > points[0, 0] else points[0] - points[3]
    width = float(np.linalg.norm(across))
    center = (
        points.mean(axis=0) + across * appearance.gaze_xy[0] + head.down * width / head.unit * appearance.gaze_xy[1]
    )
    radius = 0.065 * head.unit
    disc(ball, center, radius * 1.08, shade(appearance.iris, 0.45))
    disc(ball, center, radius * 0.9, appearance.iris)
    disc(ball, center, radius * 0.45, (14.0, 12.0, 12.0))
    stroke(ball, curve(points[:4]) + head.down * 0.02, shade(SCLERA, 0.6), 0.03 * head.unit)
    glint = center + radius * np.array([0.35 * np.sign(appearance.light_xy[0]), -0.4])
    disc(ball, glint, radius * 0.26, (252.0, 252.0, 250.0))
    return ball


def _paint_brow(
    canvas: Pixels, head: Head, points: Doubles, appearance: Appearance, random: np.random.Generator
) -> None:
    """Paints a brow that becomes thicker inwards, with hairs. The points (5, 2) run along its centre line."""
    line = curve(points, steps=4)
    along = np.linspace(0, 1, len(line))
    half = (appearance.brow_thickness * (0.25 + 0.45 * np.sin(np.pi * along * 0.62)))[:, None] * head.down
    color = shade(appearance.hair, 0.55 if sum(appearance.hair) > 380 else 0.8)
    tint(
        canvas,
        np.vstack([line - half, (line + half)[::-1]]),
        color,
        appearance.brow_strength,
        softness=0.012 * head.unit,
    )
    for start in random.integers(1, len(line) - 3, 10):
        hair = [line[start] + half[start] * 0.9, line[start - 1] - half[start] * 0.9]
        stroke(canvas, hair, shade(color, 0.7), 1)


def _paint_nose(canvas: Pixels, head: Head, appearance: Appearance) -> None:
    points = head.points
    down, right = head.down, head.right
    base = curve(points[31:36], steps=4)
    tint(
        canvas,
        np.vstack([base, base[::-1] + down * 0.07]),
        shade(appearance.skin, 0.45),
        0.4,
        softness=0.035 * head.unit,
    )
    for wing, hole, side in ((31, 32, -1), (35, 34, 1)):
        bulge = np.array([[0.015 * side, -0.1], [0.03 * side, -0.045]]) @ np.array([right, down])
        wing_line = curve(np.vstack([points[wing] + bulge, points[wing]]))
        tint(canvas, _thicken(wing_line, right * 0.012), shade(appearance.skin, 0.5), 0.55, 0.012 * head.unit)
        nostril = np.array([points[hole] + right * side * 0.035, points[hole] - right * side * 0.025])
        tint(
            canvas,
            _thicken(nostril - down * 0.012, down * 0.022),
            shade(appearance.skin, 0.16),
            0.85,
            0.012 * head.unit,
        )
    stroke(canvas, base, shade(appearance.skin, 0.68), 0.02 * head.unit)
    shadow_side = 1 if appearance.light_xy[0] < 0 else -1
    bridge = curve(points[27:31]) + right * shadow_side * np.linspace(0.05, 0.1, 19)[:, None]
    tint(
        canvas,
        _thicken(bridge, right * 0.02),
        shade(appearance.skin, 0.55),
        0.3 * (1.2 - appearance.ambient),
        0.03 * head.unit,
    )


def _thicken(line: Doubles, half: Doubles) -> Doubles:
    """A polygon along a line (K, 2): the line moved by `half` (2,) in both directions."""
    return np.vstack([line - half, (line + half)[::-1]])


def _paint_mouth(canvas: Pixels, head: Head, appearance: Appearance) -> None:
    points = head.points
    upper = np.vstack([curve(points[UPPER_LIP]), curve(points[UPPER_LIP_INSIDE][::-1])])
    lower = np.vstack([curve(points[LOWER_LIP]), curve(points[LOWER_LIP_INSIDE])])
    tint(canvas, lower + head.down * 0.05, shade(appearance.skin, 0.5), 0.3, softness=0.05 * head.unit)
    fill(canvas, lower, appearance.lips)
    fill(canvas, upper, shade(appearance.lips, 0.8))
    shine = curve(points[[58, 57, 56]]) * 0.6 + curve(points[[67, 66, 65]]) * 0.4
    tint(canvas, _thicken(shine, head.down * 0.012), (255.0, 235.0, 230.0), 0.3, 0.02 * head.unit)
    _paint_mouth_inside(canvas, head)
    stroke(canvas, curve(points[[48, 60]]), shade(appearance.lips, 0.4), 0.02 * head.unit)
    stroke(canvas, curve(points[[64, 54]]), shade(appearance.lips, 0.4), 0.02 * head.unit)


def _paint_mouth_inside(canvas: Pixels, head: Head) -> None:
    """Paints the inside of the mouth with teeth and tongue. A closed mouth becomes a line."""
    points = head.points
    down = head.down
    rim = outline(points[60:68], corners=(0, 4))
    window = window_of(canvas, rim, 2)
    part, corner = canvas[window], np.array([window[1].start, window[0].start])
    inside = np.full_like(part, MOUTH_INSIDE)
    upper, lower = curve(points[UPPER_LIP_INSIDE]) - corner, curve(points[LOWER_LIP_INSIDE]) - corner
    fill(inside, _thicken(lower, down * 0.08), TONGUE)
    opening = float(np.linalg.norm(points[66] - points[62])) / head.unit
    teeth = upper + down * min(0.12, opening * 0.75)
    fill(inside, np.vstack([upper - down * 0.05, teeth[::-1]]), TEETH)
    stroke(inside, upper, shade(TEETH, 0.6), 0.02 * head.unit)
    mask = np.zeros(part.shape[:2], np.uint8)
    fill(mask, rim - corner, 255)
    blend(part, mask, inside)
    stroke(canvas, curve(points[UPPER_LIP_INSIDE]), MOUTH_INSIDE, 0.016 * head.unit)


def _paint_beard(canvas: Pixels, head: Head, appearance: Appearance, random: np.random.Generator) -> None:
    """Paints a beard along the jaw and around the mouth, and a moustache."""
    points = head.points
    down = head.down
    color = shade(appearance.hair, 0.9)
    if appearance.beard:
        cheek = np.vstack([points[14] * 0.7 + points[54] * 0.3, points[54], points[57] + down * 0.1])
        other = np.vstack([points[48], points[2] * 0.7 + points[48] * 0.3])
        tint(canvas, np.vstack([curve(points[2:15]), cheek, other]), color, appearance.beard, 0.05 * head.unit)
    if appearance.moustache:
        right_top, left_top = points[[31, 50]].mean(axis=0), points[[35, 52]].mean(axis=0)
        top = curve([points[48], right_top, points[33] + down * 0.05, left_top, points[54]])
        tint(canvas, np.vstack([top, curve(points[UPPER_LIP])[::-1]]), color, appearance.moustache, 0.025 * head.unit)
    window = window_of(canvas, points[:17], 0)
    part = canvas[window]
    grain = random.normal(0, 7, part.shape[:2]).astype(np.float32)
    part[...] = np.clip(part + grain[..., None], 0, 255)
