"""Loads the faces of a training: reads the data, holds out validation faces, changes labels, adds morphed faces."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.schema import SCHEMAS, describe_flip
from kpdetect.data import (
    Annotations,
    concatenate,
    drop_unlabelled,
    load,
    load_sets,
    morphed_faces,
    split_by_rule,
    with_image_boxes,
)
from kpdetect.data.crops import readable
from kpdetect.recipes import Recipe, TrainOptions
from kpdetect.training.distillation import relabelling

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FaceSplit:
    """Training and validation faces.

    Attributes:
        train: Faces to train on.
        val: Faces to validate on.
        split_name: Name of the validation part in result rows.
        rule: How `val` was held out, as for `kpdetect.data.split_by_rule`; empty if it is a separate data set.
    """

    train: Annotations
    val: Annotations
    split_name: str
    rule: dict[str, Any]


def load_faces(options: TrainOptions, recipe: Recipe) -> FaceSplit:
    """Reads the data and holds out validation faces by subject, or reads ``--val-data``.

    With ``--skip-bad-rows``, unreadable validation photographs are dropped here. Unreadable training photographs are
    dropped later, when the cache is built. Photographs are read twice only if a teacher or a recipe for whole pictures
    needs them here.

    Args:
        options: ``data``, ``val_data``, ``seed`` and ``skip_bad_rows`` are used.
        recipe: Points, split, distillation and morphed faces.

    Raises:
        KpdetectError: The two data sets have different points, a set has no labels, or ``--test-fraction`` is used
            with ``--val-data``.

    Example:
        >>> options = TrainOptions(data="synthetic:20")
        >>> faces = load_faces(options, choose_recipe(options))  # doctest: +SKIP
        >>> len(faces.train), len(faces.val)  # doctest: +SKIP
        (18, 2)
    """
    if options.val_data is not None and recipe.test_fraction:
        raise KpdetectError(
            "--test-fraction holds out subjects of --data, and --val-data names separate validation faces: "
            "use one of them"
        )
    original, training = _original_and_training_labels(options, recipe)
    if options.val_data is not None:
        val = load(options.val_data, options.skip_bad_rows)
        val = readable(val) if options.skip_bad_rows else val
        val = select_for_recipe(recipe, drop_unlabelled(val, "validate"))
        if original.schema.point_names != val.schema.point_names:
            raise KpdetectError(
                f"'{original.name}' has the points of scheme '{original.schema.name}', '{val.name}' those of scheme "
                f"'{val.schema.name}': --val-data must have the same points"
            )
        faces = FaceSplit(training, val, "all (checkpoint chosen on it)", {})
    else:
        rule = split_rule(original, recipe, options.seed)
        train, val = split_by_rule(training, rule)[0], split_by_rule(original, rule)[1]
        val = readable(val) if options.skip_bad_rows and not _reads_all_photographs(recipe) else val
        faces = FaceSplit(train, val, "val by subject (checkpoint chosen on it)", rule)
    for part, rows in (("train", faces.train), ("validate", faces.val)):
        subjects = len(np.unique(rows.subjects))
        _LOG.info(f"{part:8} {len(rows)} faces of {subjects} subjects: {rows.name}")
    if faces.train.schema.name not in SCHEMAS:
        _LOG.info(f"points   {faces.train.schema.num_keypoints}: {describe_flip(faces.train.schema)}")
    if faces.train.skipped:
        _LOG.info(f"skipped {faces.train.skipped} bad rows")
    return dataclasses.replace(faces, train=with_morphed_faces(recipe, faces.train, options.seed))


def with_morphed_faces(recipe: Recipe, train: Annotations, seed: int) -> Annotations:
    """The training faces plus ``augmentation.morphed`` synthetic ones per face; the data set's name is unchanged.

    Raises:
        KpdetectError: ``augmentation.morphed`` is negative, or the faces cannot be morphed.
    """
    per_face = recipe.augmentation.morphed
    if not per_face >= 0:
        raise KpdetectError(f"augmentation.morphed: expected a number of 0 or more, received {per_face}")
    count = round(per_face * len(train))
    if not count:
        return train
    try:
        morphed = morphed_faces(train, count, seed)
    except KpdetectError as error:
        raise KpdetectError(f"{error}; --set augmentation.morphed=0 trains without morphed faces") from error
    _LOG.info(f"morphed  {count} faces, each between two training faces")
    return dataclasses.replace(concatenate([train, morphed]), name=train.name)


def _original_and_training_labels(options: TrainOptions, recipe: Recipe) -> tuple[Annotations, Annotations]:
    """The same faces with their original labels, for validation, and with the labels to train on."""
    relabel = relabelling(recipe)
    sets = load_sets(options.data or recipe.demo_data, options.skip_bad_rows)
    if options.skip_bad_rows and _reads_all_photographs(recipe):
        sets = [readable(part) for part in sets]
    original = select_for_recipe(recipe, drop_unlabelled(concatenate(sets), "train"))
    if relabel is None:
        return original, original
    changed = _select_points(recipe, drop_unlabelled(concatenate([relabel(part) for part in sets]), "train"))
    return original, dataclasses.replace(original, keypoints=changed.keypoints)


def _reads_all_photographs(recipe: Recipe) -> bool:
    """Whether every photograph is read before the cache is built."""
    return bool(recipe.distillation.models) or recipe.crop.around == "image"


def split_rule(data: Annotations, recipe: Recipe, seed: int) -> dict[str, Any]:
    """How to hold out validation and test faces, as for `kpdetect.data.split_by_rule`.

    Raises:
        KpdetectError: The recipe lists its validation subjects and ``--test-fraction`` is given.
    """
    held_out = sorted(set(recipe.val_subjects) & set(data.subjects.tolist()))
    if held_out and recipe.test_fraction:
        raise KpdetectError(
            f"--test-fraction: recipe '{recipe.name}' lists its validation subjects; add --val-fraction to draw both "
            "parts by subject"
        )
    if held_out:
        return {"val_subjects": held_out}
    rule = {"val_fraction": recipe.val_fraction, "seed": seed}
    return {**rule, "test_fraction": recipe.test_fraction} if recipe.test_fraction else rule


def select_for_recipe(recipe: Recipe, annotations: Annotations) -> Annotations:
    """The faces with the recipe's points, and with boxes around whole pictures if the recipe uses these.

    Raises:
        KpdetectError: The faces do not have these points, or none is visible.
    """
    faces = _select_points(recipe, annotations)
    return with_image_boxes(faces) if recipe.crop.around == "image" else faces


def _select_points(recipe: Recipe, annotations: Annotations) -> Annotations:
    return drop_unlabelled(annotations.select(recipe.points), "train") if recipe.points else annotations


def adapt_recipe(recipe: Recipe, faces: FaceSplit) -> Recipe:
    """The recipe without a crop margin if the data's boxes are whole pictures; else unchanged."""
    if faces.train.boxes_around == "face" or recipe.crop.around == "image":
        return recipe
    return dataclasses.replace(recipe, crop=CropRule(recipe.crop.size_hw, 1.0, "image"))
