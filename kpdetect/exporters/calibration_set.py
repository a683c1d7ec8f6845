"""Calibration set: crops of training faces on which integer files measure the ranges of their activations."""

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.data import drop_unlabelled, load, split_by_rule
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.evaluator import match_annotations
from kpdetect.exporters import CalibrationSet
from kpdetect.modelfile.spec import Spec

LEAST_FACES = 100  # with fewer, single faces determine the ranges
MOST_FACES = 300  # 100 and 500 gave the same error within 0.01 percentage points


def calibration_faces(data: str, spec: Spec, seed: int = 0) -> CalibrationSet:
    """Draws crops of faces that the model was trained on; faces of its validation and test parts are left out.

    Args:
        data: Labelled faces, as for `kpdetect.data.load`, such as ``youtube-faces:DIR,ibug:DIR``.
        spec: The model's description: scheme, crop rule and split.
        seed: Seed of the draw.

    Returns:
        From `LEAST_FACES` to `MOST_FACES` crops.

    Raises:
        KpdetectError: The faces have another scheme, are too few, or their pictures are of a single colour.

    Example:
        ```python
        faces = calibration_faces("ibug:ibug_300w", read_spec("compact"))
        ```
    """
    faces = match_annotations(spec, drop_unlabelled(load(data), "calibrate with"))
    train, _, _ = split_by_rule(faces, spec.split_rule)
    if len(train) < LEAST_FACES:
        raise KpdetectError(
            f"--representative {data}: expected at least {LEAST_FACES} training faces, received {len(train)} "
            f"({len(faces)} faces in all); use a larger data set"
        )
    rows = np.random.default_rng(seed).permutation(len(train))[:MOST_FACES]
    crops, _, _ = evaluation_crops(train.take(rows), spec.crop, spec.channels)
    blank = int((crops.min(axis=(1, 2, 3)) == crops.max(axis=(1, 2, 3))).sum())
    if len(crops) - blank < LEAST_FACES:
        raise KpdetectError(
            f"--representative {data}: expected at least {LEAST_FACES} photographs, received {len(crops) - blank} and "
            f"{blank} pictures of a single colour"
        )
    return CalibrationSet(crops, faces.name)
