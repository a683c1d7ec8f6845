"""Owns what labels become before a training sees them: known shifts taken out, and teachers' marks mixed in."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, apply_matrix, invert, to_pixels
from kpdetect.core.options import quietly
from kpdetect.data import Annotations, align
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.evaluator import check_scheme, mirrored_predictions, predict_batches
from kpdetect.modelfile import runtime
from kpdetect.recipes import Distillation, Recipe

Relabel = Callable[[Annotations], Annotations]
CROPS_AT_ONCE = 512


def relabelling(recipe: Recipe) -> Relabel | None:
    """What a recipe does to the labels of each set that it is trained on; None where it takes them as they are.

    Raises:
        KpdetectError: A teacher is no model, or their share none.
    """
    steps: list[Relabel] = [align] if recipe.align_labels else []
    if not 0 <= recipe.distillation.share <= 1:
        raise KpdetectError(f"distillation.share: expected 0 to 1, received {recipe.distillation.share}")
    if recipe.distillation.models:
        with quietly(f"loading {', '.join(recipe.distillation.models)}"):
            teachers = [runtime.load(model, threads=2) for model in recipe.distillation.models]
        steps.append(functools.partial(taught, teachers=teachers, distillation=recipe.distillation))
    return (lambda faces: functools.reduce(lambda done, step: step(done), steps, faces)) if steps else None


def taught(annotations: Annotations, teachers: Sequence[runtime.Runtime], distillation: Distillation) -> Annotations:
    """The faces with labels between their own and teachers' marks; boxes stay as they are.

    Teachers of clean labels mark the faces of coarse ones anew (Hinton et al., arXiv:1503.02531). Each sees each face
    plain and mirrored, and the mean of all counts.

    Args:
        annotations: Faces of one set.
        teachers: One or more that mark the same points, each in crops of its own.
        distillation: Which sets are taught, and the teachers' share.

    Raises:
        KpdetectError: A teacher marks other points.
    """
    if distillation.data and not {annotations.name, annotations.dataset} & set(distillation.data):
        return annotations
    for teacher in teachers:
        check_scheme(teacher.spec, annotations)
    marks = np.concatenate(
        [np.mean([_marks(part, teacher) for teacher in teachers], axis=0) for part in _parts(annotations)]
    )
    own, others = annotations.keypoints, np.where(annotations.visible[..., None], marks, annotations.keypoints)
    mixed = np.asarray((1 - distillation.share) * own + distillation.share * others, np.float32)
    who, have = ", ".join(str(teacher.path) for teacher in teachers), "has" if len(teachers) == 1 else "have"
    print(f"{who}: {have} marked {len(annotations)} faces of {annotations.name} anew", file=sys.stderr)
    return dataclasses.replace(annotations, keypoints=mixed)


def _parts(annotations: Annotations) -> Iterator[Annotations]:
    starts = range(0, len(annotations), CROPS_AT_ONCE)
    for start in tqdm(starts, desc=f"teaching {annotations.name}", unit="part", disable=None):
        yield annotations.take(np.arange(start, min(start + CROPS_AT_ONCE, len(annotations))))


def _marks(annotations: Annotations, teacher: runtime.Runtime) -> Floats:
    """A teacher's points (N, K, 2) in pixels of the photographs."""
    spec = teacher.spec
    crops, _, matrices = evaluation_crops(annotations, spec.crop, spec.channels)
    marks = to_pixels(predict_batches(teacher, crops), spec.crop.size_hw)
    mirrored = mirrored_predictions(teacher, crops, spec)
    both = marks if mirrored is None else (marks + mirrored) / 2
    return apply_matrix(invert(matrices), both)
