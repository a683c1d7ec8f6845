"""Label changes before training: alignment of known label shifts, and distillation from teacher models."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, apply_matrix, invert, to_pixels
from kpdetect.core.options import quietly
from kpdetect.core.progress import progress
from kpdetect.data import Annotations, align
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.evaluator import check_scheme, mirrored_predictions, predict_batches
from kpdetect.modelfile import runtime
from kpdetect.recipes import Distillation, Recipe

_LOG = logging.getLogger(__name__)

Relabel = Callable[[Annotations], Annotations]
CROPS_AT_ONCE = 512  # limits memory


def relabelling(recipe: Recipe) -> Relabel | None:
    """The label change of a recipe, as a function for one data set; None if labels stay unchanged.

    Raises:
        KpdetectError: A teacher is not a model, or ``distillation.share`` is outside [0, 1].
    """
    steps: list[Relabel] = [align] if recipe.align_labels else []
    if not 0 <= recipe.distillation.share <= 1:
        raise KpdetectError(f"distillation.share: expected 0 to 1, received {recipe.distillation.share}")
    if recipe.distillation.models:
        with quietly(f"loading {', '.join(recipe.distillation.models)}"):
            teachers = [runtime.load(model, threads=2) for model in recipe.distillation.models]
        steps.append(functools.partial(distill_labels, teachers=teachers, distillation=recipe.distillation))
    return (lambda faces: functools.reduce(lambda done, step: step(done), steps, faces)) if steps else None


def distill_labels(
    annotations: Annotations, teachers: Sequence[runtime.Runtime], distillation: Distillation
) -> Annotations:
    """Mixes the labels of a data set with the predictions of teachers; boxes stay unchanged.

    Teachers trained on clean labels improve coarse ones (Hinton et al., arXiv:1503.02531). Each teacher predicts every
    face plain and mirrored; the mean of all predictions is used. Invisible points keep their labels.

    Args:
        annotations: N faces of one data set.
        teachers: Models with the same points, each with its own crop.
        distillation: The data sets that are changed, and the share of the teachers.

    Returns:
        The faces with new keypoints (N, K, 2) in pixels; unchanged if `distillation` does not name the data set.

    Raises:
        KpdetectError: A teacher has other points.

    Example:
        >>> teacher = runtime.load("exported_models/compact")  # doctest: +SKIP
        >>> mixed = distill_labels(faces, [teacher], Distillation(("compact",), share=0.5))  # doctest: +SKIP
    """
    if distillation.data and not {annotations.name, annotations.dataset} & set(distillation.data):
        return annotations
    for teacher in teachers:
        check_scheme(teacher.spec, annotations)
    predicted = np.concatenate(
        [np.mean([_predict_px(part, teacher) for teacher in teachers], axis=0) for part in _parts(annotations)]
    )
    labels = annotations.keypoints
    targets = np.where(annotations.visible[..., None], predicted, labels)
    mixed = np.asarray((1 - distillation.share) * labels + distillation.share * targets, np.float32)
    names = ", ".join(str(teacher.path) for teacher in teachers)
    percent = f"{100 * distillation.share:g} %"
    _LOG.info(f"{names}: {percent} of the labels of {len(annotations)} faces of {annotations.name}")
    return dataclasses.replace(annotations, keypoints=mixed)


def _parts(annotations: Annotations) -> Iterator[Annotations]:
    starts = range(0, len(annotations), CROPS_AT_ONCE)
    for start in progress(starts, f"predicting {annotations.name}", unit="part"):
        yield annotations.take(np.arange(start, min(start + CROPS_AT_ONCE, len(annotations))))


def _predict_px(annotations: Annotations, teacher: runtime.Runtime) -> Floats:
    """A teacher's predictions (N, K, 2) in pixels of the photographs, averaged with those on mirrored crops."""
    spec = teacher.spec
    crops, _, matrices = evaluation_crops(annotations, spec.crop, spec.channels)
    plain = to_pixels(predict_batches(teacher, crops), spec.crop.size_hw)
    mirrored = mirrored_predictions(teacher, crops, spec)
    mean = plain if mirrored is None else (plain + mirrored) / 2
    return apply_matrix(invert(matrices), mean)
