"""Training batches of the shipped model: rotated, covered, blurred faces of several sets, and backgrounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kpdetect.core.geometry import Floats, apply_matrix, horizontal_flip, rotation, to_relative
from kpdetect.core.images import Pixels, cv2
from kpdetect.core.schema import IBUG68
from kpdetect.data.occlusion import draw_object
from tools.compact_faces import HIDDEN, MARGIN, SIDE, UNKNOWN
from tools.face_proportions import reshape

SWAP = list(IBUG68.flip_permutation or ())
SWAP_FIVE = [1, 0, 2, 4, 3]
TRAINED_OBJECTS = ("mask", "mask", "scarf", "sunglasses", "piece", "rectangle")
"""Hands are left out: with them the visibility is measured on a kind of object that training did not show."""

CENTER = (SIDE / 2, SIDE / 2)
MISTAKES = 0.6
"""Share of the backgrounds that are mistakes of an earlier model, if there are any."""

FACES = {
    "ibug": 0.2,
    "morphed": 0.26,
    "afw": 0.04,
    "youtube-faces": 0.12,
    "youtube-faces-published": 0.03,
    "cfp": 0.16,
    "mtfl": 0.1,
    "ages": 0.06,
    "portraits": 0.03,
    "masks": 0.06,
}
"""Share of each set among the faces of a batch."""

HARD_FACES = {**FACES, "cfp": 0.25, "masks": 0.25}
"""The same when the heads alone are trained: faces that are hard to tell from backgrounds more often."""


@dataclass(frozen=True)
class Settings:
    """Options of the batches.

    Attributes:
        side: Of the crop, in pixels.
        margin: Side of the crop over the longer side of the face box.
        faces, backgrounds: Of each kind, in a batch.
        upright: Share of faces with little roll (standard deviation 11 degrees); the others have 30.
        most_roll_deg: Largest roll.
        covered: Share of faces with one drawn object; a third of them have a second one.
        reshaped: Share of the completely labelled faces whose proportions change; see `tools.face_proportions`.
    """

    side: int = 160
    margin: float = 1.2
    faces: int = 52
    backgrounds: int = 12
    upright: float = 0.65
    most_roll_deg: float = 70.0
    covered: float = 0.35
    reshaped: float = 0.25


@dataclass(frozen=True)
class Row:
    """One crop with its labels; see `Batches` for their meaning."""

    picture: Pixels
    points: Floats
    weight: Floats
    score: float
    seen: Floats
    seen_weight: Floats
    five: Floats
    five_weight: Floats


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """Random batches, each determined by the seed and its number.

    A batch is a pair of dicts and a dict of weights, for a network of `tools.train_compact.for_training`: ``image`` (B,
    H, W, 1); ``points`` (B, 68, 2) relative to the crop, ``score`` (B, 1), ``visibility`` (B, 68, 1), ``five`` (B, 5,
    2).
    """

    def __init__(
        self,
        faces: Mapping[str, Any],
        backgrounds: Mapping[str, Any],
        settings: Settings,
        steps: int,
        seed: int = 0,
        set_shares: Mapping[str, float] = FACES,
        workers: int = 2,
    ) -> None:
        super().__init__(workers=workers, max_queue_size=12)
        train = np.flatnonzero(~faces["validation"])
        self._faces, self._settings, self._steps, self._seed = faces, settings, steps, seed
        groups = faces["group"][train]
        self._rows = {name: train[groups == name] for name in set_shares if (groups == name).any()}
        shares = np.array([set_shares[name] for name in self._rows])
        self._shares = shares / shares.sum()
        self._chances = {
            name: _by_lids(faces["points"][rows], faces["weight"][rows]) for name, rows in self._rows.items()
        }
        own = ~backgrounds["validation"]
        self._backgrounds = {
            "scenes": backgrounds["picture"][own & (backgrounds["group"] == "scenes")],
            "beside": backgrounds["picture"][own & ~np.isin(backgrounds["group"], ("scenes", "mistakes"))],
            "mistakes": backgrounds["picture"][own & (backgrounds["group"] == "mistakes")],
        }
        self._textures = [self._backgrounds["scenes"][i] for i in range(0, len(self._backgrounds["scenes"]), 5)]

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> tuple[Any, Any, Any]:
        rng = np.random.default_rng([self._seed, number])
        rows = [self._face(rng) for _ in range(self._settings.faces)]
        rows += [self._background(rng) for _ in range(self._settings.backgrounds)]
        arrays = {name: np.stack([getattr(row, name) for row in rows]) for name in Row.__dataclass_fields__}
        count = len(rows)
        labels = {
            "points": arrays["points"],
            "score": arrays["score"].astype(np.float32).reshape(count, 1),
            "visibility": arrays["seen"][..., None],
            "five": arrays["five"],
        }
        weights = {
            "points": arrays["weight"],
            "score": np.ones(count, np.float32),
            "visibility": arrays["seen_weight"],
            "five": arrays["five_weight"],
        }
        return arrays["picture"][..., None], labels, weights

    def _face(self, rng: np.random.Generator) -> Row:
        name = list(self._rows)[int(rng.choice(len(self._shares), p=self._shares))]
        row = int(rng.choice(self._rows[name], p=self._chances[name]))
        return face_row(self._faces, row, self._settings, rng, self._textures)

    def _background(self, rng: np.random.Generator) -> Row:
        kind = rng.random()
        mistakes = self._backgrounds["mistakes"]
        if len(mistakes) and rng.random() < MISTAKES:  # as prediction crops them, and little changed
            picture = mistakes[int(rng.integers(len(mistakes)))]
            matrix = _placement(CENTER, SIDE / MARGIN, rng.normal(0, 8), rng.random() < 0.5, self._settings, rng)
        elif kind < 0.3:  # beside a face, or a part of one
            name = list(self._rows)[int(rng.choice(len(self._shares), p=self._shares))]
            picture = self._faces["picture"][int(rng.choice(self._rows[name]))]
            matrix = _off_center(self._settings, rng)
        else:
            pool = self._backgrounds["scenes" if kind < 0.75 else "beside"]
            picture = pool[int(rng.integers(len(pool)))]
            matrix = _placement(CENTER, SIDE / MARGIN, rng.normal(0, 25), rng.random() < 0.5, self._settings, rng)
        crop = degrade(_warp(picture, matrix, self._settings.side), rng)
        nothing = np.zeros(68, np.float32)
        half = np.full((68, 2), 0.5, np.float32)
        return Row(crop, half, nothing, 0.0, nothing, nothing, half[:5], nothing[:5])


def face_row(
    faces: Mapping[str, Any], row: int, settings: Settings, rng: np.random.Generator, textures: list[Pixels]
) -> Row:
    """A random crop of a face, with its labels."""
    picture, points, weight = faces["picture"][row], faces["points"][row], faces["weight"][row].copy()
    seen, five = faces["seen"][row].copy(), faces["five"][row]
    if (weight >= 0.5).all() and rng.random() < settings.reshaped:
        picture, points, five = reshape(picture, points, five, rng)
    deviation = 11.0 if rng.random() < settings.upright else 30.0
    roll = float(np.clip(rng.normal(0, deviation), -settings.most_roll_deg, settings.most_roll_deg))
    mirror = rng.random() < 0.5
    box = faces["box"][row]
    turned = points[weight > 0] if (weight > 0).any() else box[[[0, 1], [2, 1], [2, 3], [0, 3]]]
    turned = apply_matrix(rotation(roll, (SIDE / 2, SIDE / 2)), turned)
    low, high = turned.min(axis=0), turned.max(axis=0)
    center = apply_matrix(rotation(-roll, (SIDE / 2, SIDE / 2)), ((low + high) / 2)[None])[0]
    matrix = _placement(tuple(center), float((high - low).max()), roll, mirror, settings, rng)
    crop = _warp(picture, matrix, settings.side)
    points, five = apply_matrix(matrix, points), apply_matrix(matrix, np.nan_to_num(five))
    five_weight = np.isfinite(faces["five"][row]).all(axis=1).astype(np.float32)
    if mirror:
        points, weight, seen = points[SWAP], weight[SWAP], seen[SWAP]
        five, five_weight = five[SWAP_FIVE], five_weight[SWAP_FIVE]
    if (weight > 0).any():
        while rng.random() < settings.covered:
            hidden = draw_object(crop, points, rng, textures, TRAINED_OBJECTS)
            seen = np.where(hidden, HIDDEN, seen)
            if rng.random() > 0.35:
                break
    if rng.random() < 0.06:
        _cut_border(crop, rng)
    relative = to_relative(points, (settings.side, settings.side))
    outside = (relative < 0.0).any(axis=1) | (relative > 1.0).any(axis=1)
    seen_weight = ((seen != UNKNOWN) & ~outside).astype(np.float32)
    return Row(
        degrade(crop, rng),
        np.clip(relative, -0.2, 1.2).astype(np.float32),
        weight.astype(np.float32),
        1.0,
        (seen == 1).astype(np.float32),
        seen_weight,
        to_relative(five, (settings.side, settings.side)).astype(np.float32),
        five_weight,
    )


def _by_lids(points: Floats, weight: Floats) -> np.ndarray:
    """Probabilities of the faces of a set: a face with shut eyes is drawn four times as often."""
    eyes = []
    for first in (36, 42):
        corner, top, high, other, low, bottom = (points[:, first + i] for i in range(6))
        width = np.maximum(np.linalg.norm(other - corner, axis=1), 1e-3)
        eyes.append((np.linalg.norm(top - bottom, axis=1) + np.linalg.norm(high - low, axis=1)) / (2 * width))
    shut = (np.maximum(*eyes) < 0.2) & (weight[:, 36:48] > 0).all(axis=1)
    chances = np.where(shut, 4.0, 1.0)
    return np.asarray(chances / chances.sum())


def _placement(
    center: tuple[float, float],
    face_side: float,
    roll: float,
    mirror: bool,
    settings: Settings,
    rng: np.random.Generator,
) -> np.ndarray:
    """A matrix from the picture to the crop, with random shift and scale."""
    side = face_side * settings.margin * np.exp(rng.normal(0, 0.1))
    shift = np.clip(rng.normal(0, 0.045, 2), -0.14, 0.14) * side
    zoom = settings.side / side
    place = np.diag([zoom, zoom, 1.0])
    place[:2, 2] = settings.side / 2 - 0.5
    move = np.eye(3)
    move[:2, 2] = -(np.asarray(center) + shift)
    flip = horizontal_flip(settings.side) if mirror else np.eye(3)
    return np.asarray(flip @ place @ rotation(roll, (0.0, 0.0)) @ move)


def _off_center(settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """A matrix to a crop beside a face or within one, whose box meets the face's by less than a quarter."""
    face = SIDE / MARGIN
    if rng.random() < 0.6:
        side, angle = face * np.exp(rng.normal(0, 0.15)), rng.uniform(0, 2 * np.pi)
        center = SIDE / 2 + np.array([np.cos(angle), np.sin(angle)]) * face * rng.uniform(0.7, 0.95)
    else:
        side = face * rng.uniform(0.18, 0.42)
        center = SIDE / 2 + rng.uniform(-0.45, 0.45, 2) * face
    return _placement(tuple(center), side, rng.normal(0, 20), rng.random() < 0.5, settings, rng)


def _warp(picture: Pixels, matrix: np.ndarray, side: int) -> Pixels:
    shrink = 1 / max(float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))), 1e-6)
    if shrink > 1.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.4 * shrink), np.uint8)
    return np.array(cv2.warpAffine(picture, matrix[:2], (side, side), flags=cv2.INTER_LINEAR), np.uint8)


def _cut_border(crop: Pixels, rng: np.random.Generator) -> None:
    """Blackens a side of the crop, as at the border of a photograph."""
    part, side = int(len(crop) * rng.uniform(0.05, 0.35)), int(rng.integers(4))
    view = (crop[:part], crop[-part:], crop[:, :part], crop[:, -part:])[side]
    view[...] = 0


def degrade(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Random size, blur, gamma, contrast, brightness, noise and compression."""
    crop: Any = picture
    side = len(crop)
    if rng.random() < 0.22:
        small = int(np.exp(rng.uniform(np.log(22), np.log(120))))
        crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    elif rng.random() < 0.2:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 2.2))
    elif rng.random() < 0.06:  # motion
        length, angle = int(rng.integers(3, 10)), rng.uniform(0, np.pi)
        kernel = np.zeros((11, 11), np.float32)
        ends = [(round(5 + s * length / 2 * np.cos(angle)), round(5 + s * length / 2 * np.sin(angle))) for s in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1)
        crop = cv2.filter2D(crop, -1, kernel / kernel.sum())
    values = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.33))
    values = (values - 0.5) * rng.uniform(0.5, 1.3) + 0.5 + rng.normal(0, 0.08)
    crop = cv2.LUT(crop, np.clip(255 * values, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        noise = rng.standard_normal(crop.shape, np.float32) * np.float32(rng.uniform(1, 11))
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 85))]
        crop = cv2.imdecode(cv2.imencode(".jpg", crop, quality)[1], cv2.IMREAD_GRAYSCALE)
    return np.asarray(crop, np.uint8)
