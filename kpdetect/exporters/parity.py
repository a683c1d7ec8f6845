"""Comparison of an exported file with Keras: the probe pictures, and the difference of the outputs."""

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
from kpdetect.modelfile.spec import OUTPUT_NAME, SCORE_NAME, UNCERTAINTY_NAME, VISIBILITY_NAME, Spec

NUM_PROBES = 32
PROBE_BATCHES = (NUM_PROBES, 1, 16)  # several, to detect a batch size that is fixed inside the graph


class DifferenceTooGreat(KpdetectError):
    """A file's outputs differ from Keras' by more than its tolerance."""


@dataclass(frozen=True)
class Difference:
    """Difference of a file's outputs from Keras', in pixels of the crop.

    For an uncertainty above one pixel the relative difference counts: on noise an uncertainty may be as large as the
    crop, and rounding of its fifth digit would exceed any difference of the points.

    Attributes:
        greatest_px: Greatest difference over all pictures and outputs. A probability counts as one pixel: a difference
            of 0.01 in a score or a visibility as 0.01 pixels.
        mean_px: Mean of the same differences.
    """

    greatest_px: float
    mean_px: float


@dataclass(frozen=True)
class KerasReference:
    """Keras' outputs for some pictures.

    Attributes:
        crops: (N, H, W, C) uint8.
        expected: (N, K, C), as of `all_outputs`.
    """

    crops: Pixels
    expected: Floats

    @classmethod
    def of(cls, crops: Pixels, source: Source) -> "KerasReference":
        """Runs the Keras model on the crops."""
        batches = [crops[start : start + NUM_PROBES] for start in range(0, len(crops), NUM_PROBES)]
        with _exact_float32():
            outputs = [source.model(batch.astype(np.float32), training=False) for batch in batches]
        return cls(crops, np.concatenate([all_outputs(output) for output in outputs]))

    def compare(self, path: Path) -> Difference:
        """Runs a file in its own runtime and returns the difference."""
        with _exact_float32():
            return difference(runtime.load(path), self.crops, self.expected)


def check_difference(name: str, found: Difference, kind: Kind, tolerance_px: float) -> None:
    """Checks the difference from Keras against the format's tolerance; a greater tolerance of the user's replaces it.

    Raises:
        DifferenceTooGreat: The difference is greater, or an output is not finite.
    """
    exact = kind.mean_px is None
    word, measured = ("greatest", found.greatest_px) if exact else ("mean", found.mean_px)
    allowed = max(tolerance_px, kind.mean_px or 0.0)
    if not measured <= allowed:
        raise DifferenceTooGreat(
            f"{name}: {word} difference from Keras: expected at most {allowed:g} pixels of the crop (--tolerance-px), "
            f"received {measured:.3g}"
        )


def all_outputs(outputs: Any) -> npt.NDArray[np.float32]:
    """Returns all outputs of a model as one array (N, K, C).

    C is 2 for the keypoints, and 1 more for each of uncertainty, visibility and score; the score is repeated for each
    point.
    """
    from kpdetect import models

    named = {name: np.asarray(tensor) for name, tensor in models.split_joined(outputs).items()}
    keypoints = named[OUTPUT_NAME]
    parts = [keypoints]
    for name in (UNCERTAINTY_NAME, VISIBILITY_NAME, SCORE_NAME):
        if name in named:
            values = named[name].reshape(len(keypoints), -1, 1)
            parts.append(np.broadcast_to(values, (*keypoints.shape[:2], 1)))
    return np.concatenate(parts, axis=-1)


def probe_crops(count: int, input_shape: tuple[int, int, int]) -> Pixels:
    """Returns pictures to compare runtimes on: black, white, noise, and random waves and edges of every size.

    Returns:
        (count, H, W, C) uint8, deterministic.
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
    """Returns the difference of a file's outputs from Keras', for several batch sizes.

    Args:
        model: The file in its own runtime.
        crops: (N, H, W, C).
        expected_relative: Keras' outputs for them, (N, K, C), as of `all_outputs`.

    Returns:
        Infinite if an output is not finite.
    """
    height, width = model.spec.crop.size_hw
    uncertainties = [float(max(width, height))] * model.spec.uncertainty
    probabilities = [1.0] * (model.spec.visibility + model.spec.score)
    units = np.array([width, height, *uncertainties, *probabilities], np.float32)
    expected_px = expected_relative * units
    unit_px = np.ones_like(expected_px)
    unit_px[..., 2:] = np.maximum(expected_px[..., 2:], 1)  # uncertainties
    found = []
    for size in (len(crops), *PROBE_BATCHES):
        outputs = all_outputs(_named(model.predict(crops[:size]), model.spec))
        off = np.abs(outputs * units - expected_px[:size]) / unit_px[:size]
        found.append(np.nan_to_num(off, nan=np.inf))
    return Difference(max(float(off.max()) for off in found), float(found[0].mean()))


def _named(prediction: runtime.Prediction, spec: Spec) -> dict[str, Floats]:
    return {name: getattr(prediction, name) for name in spec.outputs}


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
