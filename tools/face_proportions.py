"""Changes the proportions of a labelled face: the height of the chin, mouth and brows, the width of cheeks, large eyes.

The labelled sets show adults. A part of the changes has the direction from an adult's face to a baby's: a short lower
face, wide cheeks, and large eyes.
"""

from typing import Any

import numpy as np

from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, cv2

BABY_SHARE = 0.5
GRID = 18  # the displacements are computed on a grid of this many cells, and interpolated
ANCHORS = {
    "chin": ((0.0, 1.0), 0.45),
    "mouth": ((0.0, 0.62), 0.3),
    "brows": ((0.0, -0.3), 0.35),
    "cheek left": ((-0.55, 0.5), 0.4),
    "cheek right": ((0.55, 0.5), 0.4),
}
"""Place and reach of each change, in units of the distance from the middle of the eyes to the chin."""


def reshape(picture: Pixels, points: Floats, five: Floats, rng: np.random.Generator) -> tuple[Pixels, Floats, Floats]:
    """Moves the parts of a face smoothly and randomly.

    Args:
        picture: (H, W) uint8.
        points: (68, 2) in pixels.
        five: (5, 2) in pixels; may be NaN.
        rng: Source of randomness.

    Returns:
        The picture, the points and the five points, changed alike.
    """
    eyes = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])
    origin, down = eyes.mean(axis=0), points[8] - eyes.mean(axis=0)
    unit = float(np.linalg.norm(down))
    if unit < 8 or np.linalg.norm(eyes[1] - eyes[0]) < 0.3 * unit:  # nearly a profile
        return picture, points, five
    axis = down / unit
    frame = np.array([[axis[1], -axis[0]], axis]) / unit  # pixels to units: to the right of the picture, and down
    baby = rng.random() < BABY_SHARE
    moves = _moves(rng, baby)
    zoom = rng.normal(0.1 if baby else 0.0, 0.06)
    centers = (eyes - origin) @ frame.T

    def shift(places: Any) -> Any:
        """Where the content of each place (..., 2), in units, comes from, relative to it."""
        total = np.zeros_like(places)
        for name, (center, reach) in ANCHORS.items():
            total -= _bell(places - center, reach) * moves[name]
        for center in centers:
            total -= zoom * _bell(places - center, 0.3) * (places - center)
        return total

    height, width = picture.shape
    steps = (np.arange(GRID) + 0.5) / GRID  # the centres of the cells, as `cv2.resize` takes them
    ys, xs = np.meshgrid(steps * height - 0.5, steps * width - 0.5, indexing="ij")
    cells = (np.stack([xs, ys], axis=-1) - origin) @ frame.T
    back = np.linalg.inv(frame)
    field = cv2.resize((shift(cells) @ back.T).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    grid_x, grid_y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    changed = cv2.remap(
        picture, grid_x + field[..., 0], grid_y + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )

    def moved(old: Floats) -> Floats:
        source = (old - origin) @ frame.T
        place = source.copy()
        for _ in range(8):  # solves place + shift(place) = source
            place = source - shift(place)
        return np.asarray(place @ back.T + origin, np.float32)

    return np.asarray(changed, np.uint8), moved(points), moved(five)


def _moves(rng: np.random.Generator, baby: bool) -> dict[str, Any]:
    """The displacement of each anchor, in units."""
    toward = 1.0 if baby else 0.0
    cheeks = rng.normal(0.06 * toward, 0.035)
    return {
        "chin": np.array([0.0, rng.normal(-0.12 * toward, 0.05)]),
        "mouth": np.array([0.0, rng.normal(-0.05 * toward, 0.03)]),
        "brows": np.array([0.0, rng.normal(-0.03 * toward, 0.025)]),
        "cheek left": np.array([-cheeks, 0.0]),
        "cheek right": np.array([cheeks, 0.0]),
    }


def _bell(offset: Any, reach: float) -> Any:
    """A Gaussian bell (..., 1)."""
    return np.exp(-(offset**2).sum(axis=-1, keepdims=True) / (2 * reach**2))
