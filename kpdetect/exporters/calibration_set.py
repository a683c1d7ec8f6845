"""Owns the representative set: crops of training faces, from which integer files take the ranges of their numbers."""

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.data import drop_unlabelled, load, split_by_rule
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.evaluator import match_annotations
from kpdetect.exporters import CalibrationSet
from kpdetect.modelfile.spec import Spec

LEAST_FACES = 100  # with fewer, one face's extremes show in every range
MOST_FACES = 300  # 100 and 500 gave the same error within 0.01 percentage points


def calibration_faces(data: str, spec: Spec, seed: int = 0) -> CalibrationSet:
    """Draws crops of faces that the model was trained on; nobody of its validation and test parts is among them.

    Args:
        data: Labelled faces, as `kpdetect.data.load` takes them, such as ``youtube-faces:DIR,ibug:DIR``.
        spec: The model's description: its scheme, its crop, and how its data were divided.
        seed: Another seed draws other faces.

    Returns:
        From `LEAST_FACES` to `MOST_FACES` of them.

    Raises:
        KpdetectError: The faces are of another scheme, too few, or pictures of one colour, from which nothing has a
            range.
    """
    faces = match_annotations(spec, drop_unlabelled(load(data), "take ranges from"))
    train, _, _ = split_by_rule(faces, spec.split_rule)
    if len(train) < LEAST_FACES:
        raise KpdetectError(
            f"--representative {data}: expected {LEAST_FACES} faces or more that are trained on, received {len(train)} "
            f"({len(faces)} with those held out of training); name a larger set"
        )
    rows = np.random.default_rng(seed).permutation(len(train))[:MOST_FACES]
    crops, _, _ = evaluation_crops(train.take(rows), spec.crop, spec.channels)
    blank = int((crops.min(axis=(1, 2, 3)) == crops.max(axis=(1, 2, 3))).sum())
    if len(crops) - blank < LEAST_FACES:
        raise KpdetectError(
            f"--representative {data}: expected {LEAST_FACES} photographs of faces or more, received "
            f"{len(crops) - blank}, and {blank} pictures of one colour"
        )
    return CalibrationSet(crops, faces.name)
