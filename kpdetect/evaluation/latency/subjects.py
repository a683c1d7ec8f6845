"""Prepares a model file, or a model of another project, for timing on synthetic faces."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kpdetect.core.geometry import CropRule, image_box
from kpdetect.core.images import Pixels
from kpdetect.data import synthetic
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.latency.operations import OperationTime, onnx_operations
from kpdetect.evaluation.latency.peers import MESH_CROP, dlib_predictor, mediapipe_mesh
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import model_kind

FACES = 8  # different ones; a larger batch repeats them
PHOTOGRAPH_SIDE = 256
DLIB_CROP = CropRule((256, 256), 1.2)


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Attributes:
        name: A model file or folder, or the name of a peer.
        threads: Number of threads per batch.
    """

    name: str
    threads: int


@dataclass(frozen=True)
class Prepared:
    """A loaded subject.

    Attributes:
        run: Predicts a batch of the given size; its crops are prepared.
        file: The file that runs; for a bundle, the file in it.
        kind: ``tflite``, ``onnx``, ``saved_model``, ``keras`` or ``dlib``.
        bytes: The file's size.
        operations: From batch size and number of runs to the time by operation; None if the runtime does not report it.
        macs: Multiply-accumulates per crop; 0 if unknown.
        crop_bytes: Bytes of a crop.
    """

    run: Callable[[int], object]
    file: Path
    kind: str
    bytes: int
    operations: Callable[[int, int], list[OperationTime]] | None = None
    macs: int = 0
    crop_bytes: int = 0


def prepare(subject: Subject, batches: Sequence[int]) -> Prepared:
    """Loads a subject and cuts its crops.

    Args:
        subject: The subject.
        batches: The batch sizes that will be run.

    Raises:
        KpdetectError: The file is no model, or needs a missing package.
        ModuleNotFoundError: A peer is not installed.
    """
    return PEERS[subject.name](subject, batches) if subject.name in PEERS else _model(subject, batches)


def _model(subject: Subject, batches: Sequence[int]) -> Prepared:
    # TensorFlow reads its number of threads from the environment when it starts.
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(subject.threads)
    model = runtime.load(subject.name, subject.threads)
    inputs = _inputs(model.spec.crop, model.spec.channels, batches)
    kind = "keras" if model.path.suffix == ".h5" else model_kind(model.path)

    def operations(batch: int, runs: int) -> list[OperationTime]:
        return onnx_operations(model.path, subject.threads, inputs[batch], runs)

    profile = operations if kind == "onnx" else None
    macs, crop_bytes = int(model.spec.extra.get("macs", 0)), inputs[min(batches)][0].nbytes
    return Prepared(
        lambda batch: model.predict(inputs[batch]), model.path, kind, model.bytes, profile, macs, crop_bytes
    )


def _dlib(subject: Subject, batches: Sequence[int]) -> Prepared:
    mark, file = dlib_predictor()
    inputs = _inputs(DLIB_CROP, 3, batches)
    side = DLIB_CROP.size_hw[0]
    low = side * (1 - 1 / DLIB_CROP.margin) / 2
    box = np.array([low, low, side - low, side - low], np.float32)
    return Prepared(lambda batch: [mark(crop, box) for crop in inputs[batch]], file, "dlib", file.stat().st_size)


def _mediapipe(subject: Subject, batches: Sequence[int]) -> Prepared:
    mark, file = mediapipe_mesh(subject.threads)
    inputs = _inputs(MESH_CROP, 3, batches)
    return Prepared(lambda batch: [mark(crop) for crop in inputs[batch]], file, "tflite", file.stat().st_size)


PEERS: dict[str, Callable[[Subject, Sequence[int]], Prepared]] = {"dlib": _dlib, "MediaPipe": _mediapipe}
"""Both predict one face at a time; dlib uses one thread."""


def _inputs(crop: CropRule, channels: int, batches: Sequence[int]) -> dict[int, Pixels]:
    """Returns the crops (B, H, W, C) for each batch size."""
    faces = synthetic.annotations(FACES, size=PHOTOGRAPH_SIDE)
    whole = np.tile(image_box((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE)), (FACES, 1))
    crops = evaluation_crops(faces, crop, channels, whole if crop.around == "image" else faces.boxes)[0]
    return {batch: np.resize(crops, (batch, *crops.shape[1:])) for batch in batches}
