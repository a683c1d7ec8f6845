"""Owns whom a training learns from and whom it is validated on."""

import dataclasses
import sys
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


@dataclass(frozen=True)
class Faces:
    """The faces of a training.

    Attributes:
        train: Rows to learn from.
        val: Rows to validate on.
        split: How result rows call the validation part.
        rule: How it was held out, as `split_by_rule` takes it; empty where it is a set of its own.
    """

    train: Annotations
    val: Annotations
    split: str
    rule: dict[str, Any]


def load_faces(options: TrainOptions, recipe: Recipe) -> Faces:
    """Reads the data and splits it by subject, or reads the validation data that was named; blends who is learned from.

    Photographs that cannot be read and are to be gone past: those to validate on are left out here, those to learn
    from when they are cached, since nobody else looks at them. Only where somebody does, a teacher or who asks for
    whole pictures, all of them are read once before.

    Raises:
        KpdetectError: The two sets are labelled with different points, or one with none; or a test part is asked for
            where the validation faces are named.
    """
    if options.val_data is not None and recipe.test_fraction:
        raise KpdetectError(
            "--test-fraction holds subjects of --data out, and --val-data names the faces to validate on: choose one"
        )
    given, taught = _given_and_taught(options, recipe)
    if options.val_data is not None:
        val = load(options.val_data, options.skip_bad_rows)
        val = readable(val) if options.skip_bad_rows else val
        val = as_recipe_takes(recipe, drop_unlabelled(val, "validate"))
        _check_same_scheme(given, val)
        faces = Faces(taught, val, "all (checkpoint chosen on it)", {})
    else:
        rule = split_rule(given, recipe, options.seed)
        train, val = split_by_rule(taught, rule)[0], split_by_rule(given, rule)[1]
        val = readable(val) if options.skip_bad_rows and not _looked_at(recipe) else val
        faces = Faces(train, val, "val by subject (checkpoint chosen on it)", rule)
    _say_faces(faces)
    return dataclasses.replace(faces, train=with_morphed_faces(recipe, faces.train, options.seed))


def with_morphed_faces(recipe: Recipe, train: Annotations, seed: int) -> Annotations:
    """The faces to learn from, and as many between them as the recipe asks for; the name stays.

    Raises:
        KpdetectError: The recipe asks for fewer than none, or the faces cannot be blended.
    """
    share = recipe.augmentation.morphed
    if not share >= 0:
        raise KpdetectError(f"augmentation.morphed: expected a number of 0 or more, received {share}")
    count = round(share * len(train))
    if not count:
        return train
    print(f"blended  {count} faces, each between two of these", file=sys.stderr)
    return dataclasses.replace(concatenate([train, morphed_faces(train, count, seed)]), name=train.name)


def _given_and_taught(options: TrainOptions, recipe: Recipe) -> tuple[Annotations, Annotations]:
    """The faces with their labels as they are given, and as they are learned; errors are told on the former."""
    relabel = relabelling(recipe)
    sets = load_sets(options.data or recipe.demo_data, options.skip_bad_rows)
    if options.skip_bad_rows and _looked_at(recipe):
        sets = [readable(part) for part in sets]
    given = drop_unlabelled(concatenate(sets), "train")
    faces = as_recipe_takes(recipe, given)
    if relabel is None:
        return faces, faces
    taught = _with_points(recipe, drop_unlabelled(concatenate([relabel(part) for part in sets]), "train"))
    return faces, dataclasses.replace(faces, keypoints=taught.keypoints)


def _looked_at(recipe: Recipe) -> bool:
    """Whether every photograph must be readable before any is cached."""
    return bool(recipe.distillation.models) or recipe.crop.around == "image"


def split_rule(data: Annotations, recipe: Recipe, seed: int) -> dict[str, Any]:
    """How to hold out validation and test, for `split_by_rule`: the recipe's subjects where the data has them."""
    held_out = sorted(set(recipe.val_subjects) & set(data.subjects.tolist()))
    if held_out and recipe.test_fraction:
        raise KpdetectError(
            f"--test-fraction: recipe '{recipe.name}' names whom it validates on; with --val-fraction too, both "
            "are drawn by subject"
        )
    if held_out:
        return {"val_subjects": held_out}
    rule = {"val_fraction": recipe.val_fraction, "seed": seed}
    return {**rule, "test_fraction": recipe.test_fraction} if recipe.test_fraction else rule


def as_recipe_takes(recipe: Recipe, annotations: Annotations) -> Annotations:
    """The faces with the points that a recipe is about, and whole pictures for boxes where it takes these.

    Raises:
        KpdetectError: The faces have no such points, or none that is visible.
    """
    faces = _with_points(recipe, annotations)
    return with_image_boxes(faces) if recipe.crop.around == "image" else faces


def _with_points(recipe: Recipe, annotations: Annotations) -> Annotations:
    return drop_unlabelled(annotations.select(recipe.points), "train") if recipe.points else annotations


def suited_to(recipe: Recipe, faces: Faces) -> Recipe:
    """The recipe, which crops nothing away where the data's boxes are whole pictures."""
    if faces.train.boxes_around == "face" or recipe.crop.around == "image":
        return recipe
    return dataclasses.replace(recipe, crop=CropRule(recipe.crop.size_hw, 1.0, "image"))


def _check_same_scheme(data: Annotations, val: Annotations) -> None:
    if data.schema.point_names != val.schema.point_names:
        raise KpdetectError(
            f"'{data.name}' is labelled with the points of scheme '{data.schema.name}', "
            f"'{val.name}' with those of '{val.schema.name}': name --val-data of the same points"
        )


def _say_faces(faces: Faces) -> None:
    for part, rows in (("train", faces.train), ("validate", faces.val)):
        subjects = len(np.unique(rows.subjects))
        print(f"{part:8} {len(rows)} faces of {subjects} subjects: {rows.name}", file=sys.stderr)
    if faces.train.schema.name not in SCHEMAS:
        print(f"points   {faces.train.schema.num_keypoints}: {describe_flip(faces.train.schema)}", file=sys.stderr)
    skipped = faces.train.skipped
    if skipped:
        print(f"went on without {skipped} bad rows", file=sys.stderr)
