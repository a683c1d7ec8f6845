"""Owns whether a file says what Keras says: the pictures that both are shown, and how far their answers lie apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels
from kpdetect.exporters import Kind, Source
from kpdetect.modelfile import runtime
from kpdetect.modelfile.spec import OUTPUT_NAME, UNCERTAINTY_NAME

NUM_PROBES = 32
PROBE_BATCHES = (NUM_PROBES, 1, 16)  # a batch size that was baked into a reshape shows here


@dataclass(frozen=True)
class Difference:
    """How far a file's outputs lie from Keras', in pixels of the crop.

    Of an uncertainty of more than a pixel the share of itself counts: on noise it may be as large as the crop, where
    rounding in its fifth digit would be more pixels than any point moves by.

    Attributes:
        greatest_px: At worst, over all pictures, coordinates and uncertainties.
        mean_px: The mean of the same.
    """

    greatest_px: float
    mean_px: float


@dataclass(frozen=True)
class Comparison:
    """What Keras says of some pictures.

    Attributes:
        crops: (N, H, W, C) uint8.
        expected: (N, K, 2), relative, or (N, K, 3) with the uncertainty.
    """

    crops: Pixels
    expected: Floats

    @classmethod
    def on(cls, crops: Pixels, source: Source) -> "Comparison":
        """Asks Keras."""
        batches = [crops[start : start + NUM_PROBES] for start in range(0, len(crops), NUM_PROBES)]
        with _exact_float32():
            said = [source.model(batch.astype(np.float32), training=False) for batch in batches]
        return cls(crops, np.concatenate([all_outputs(outputs) for outputs in said]))

    def of(self, path: Path) -> Difference:
        """Compares a file in its own runtime."""
        with _exact_float32():
            return difference(runtime.load(path), self.crops, self.expected)


def check_difference(name: str, found: Difference, kind: Kind, tolerance_px: float) -> None:
    """Makes sure that a file lies as near to Keras as its kind has to; a wider tolerance of the user's counts instead.

    Raises:
        KpdetectError: It does not; or its outputs are not numbers.
    """
    exact = kind.mean_px is None
    word, measured = ("at worst", found.greatest_px) if exact else ("in the mean", found.mean_px)
    allowed = max(tolerance_px, kind.mean_px or 0.0)
    if not measured <= allowed:
        raise KpdetectError(
            f"{name}: differs from Keras by {measured:.3g} pixels of the crop, {word}, expected at most {allowed:g} "
            "(--tolerance-px); nothing was written"
        )


def all_outputs(outputs: Any) -> npt.NDArray[np.float32]:
    """Everything a model tells of its crops as one array: (N, K, 2), or (N, K, 3) with the uncertainty."""
    from kpdetect import models

    named = {name: np.asarray(tensor) for name, tensor in models.split_joined(outputs).items()}
    parts = [named[OUTPUT_NAME], *(named[name][..., None] for name in named if name == UNCERTAINTY_NAME)]
    return np.concatenate(parts, axis=-1)


def probe_crops(count: int, input_shape: tuple[int, int, int]) -> Pixels:
    """Pictures to compare runtimes on: black, white, noise, and random waves and edges of every size.

    Returns:
        (count, H, W, C) uint8, always the same for the same arguments.
    """
    height, width, channels = input_shape
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    frequency = random.normal(0, 4, (count, channels, 5, 2))
    phase = random.uniform(0, 2 * np.pi, (count, channels, 5, 1, 1))
    angle = 2 * np.pi * (frequency[..., :1, None] * x + frequency[..., 1:, None] * y) + phase
    waves = np.cos(angle).mean(axis=2) + 0.3 * np.sign(np.cos(angle[:, :, 0]))
    crops = np.moveaxis(127.5 + 127.5 * waves, 1, -1)
    crops[:3] = np.array([0, 255, 0])[:count, None, None, None]
    crops[2:3] = random.uniform(0, 255, crops[2:3].shape)
    return np.asarray(np.clip(crops, 0, 255), np.uint8)


def difference(model: runtime.Runtime, crops: Pixels, expected_relative: Floats) -> Difference:
    """How far a file's outputs lie from Keras', in pixels of the crop; several batch sizes are tried.

    Args:
        model: The file in its own runtime.
        crops: (N, H, W, C).
        expected_relative: Keras' points of them, (N, K, 2), or with the uncertainty as a third number.

    Returns:
        Infinite where an output is no number.
    """
    height, width = model.spec.crop.size_hw
    units = (width, height, max(width, height))[: expected_relative.shape[-1]]
    expected_px = expected_relative * np.asarray(units, np.float32)
    counted_in = np.ones_like(expected_px)
    counted_in[..., 2:] = np.maximum(expected_px[..., 2:], 1)  # uncertainties
    found = []
    for size in (len(crops), *PROBE_BATCHES):
        off = np.abs(all_outputs(_named(model.predict(crops[:size]))) * units - expected_px[:size]) / counted_in[:size]
        found.append(np.nan_to_num(off, nan=np.inf))
    return Difference(max(float(off.max()) for off in found), float(found[0].mean()))


def _named(marks: runtime.Prediction) -> dict[str, Floats]:
    named = {OUTPUT_NAME: marks.keypoints}
    return named if marks.uncertainty is None else {**named, UNCERTAINTY_NAME: marks.uncertainty}


@contextmanager
def _exact_float32() -> Iterator[None]:
    """On a GPU, TensorFlow rounds products to 10 bits by default; a comparison to 0.01 pixels needs all 23."""
    import tensorflow as tf

    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)
