"""Owns whom a training learns from and whom it is validated on."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from kpdetect.crops import readable
from kpdetect.datasets import Annotations, labelled, load, on_whole_pictures, split_by_rule
from kpdetect.errors import KpdetectError
from kpdetect.geometry import CropRule
from kpdetect.recipes import Recipe, TrainOptions
from kpdetect.training.teaching import Relabel, relabelling


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
    """Reads the data and splits it by subject, or reads the validation data that was named.

    Raises:
        KpdetectError: The two sets are labelled with different points, or one with none; or a test part is asked for
            where the validation faces are named.
    """
    spec = options.data or recipe.demo_data
    if options.val_data is not None and recipe.test_fraction:
        raise KpdetectError(
            "--test-fraction holds subjects of --data out, and --val-data names the faces to validate on: choose one"
        )
    relabel = relabelling(recipe)  # for training alone: errors are told on the labels as they are given
    given = _read(spec, options, recipe, "train")
    taught = given if relabel is None else _read(spec, options, recipe, "train", relabel)
    if options.val_data is not None:
        val = _read(options.val_data, options, recipe, "validate")
        _check_same_scheme(given, val)
        faces = Faces(taught, val, "all (checkpoint chosen on it)", {})
    else:
        rule = split_rule(given, recipe, options.seed)
        train, val = split_by_rule(taught, rule)[0], split_by_rule(given, rule)[1]
        faces = Faces(train, val, "val by subject (checkpoint chosen on it)", rule)
    _say_faces(faces)
    return faces


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


def _read(
    spec: str, options: TrainOptions, recipe: Recipe, purpose: str, relabel: Relabel | None = None
) -> Annotations:
    if not options.skip_bad_rows:
        return as_recipe_takes(recipe, labelled(load(spec, relabel=relabel), purpose))
    faces = load(spec, True, None if relabel is None else lambda part: relabel(readable(part)))
    return as_recipe_takes(recipe, labelled(readable(faces), purpose))


def as_recipe_takes(recipe: Recipe, annotations: Annotations) -> Annotations:
    """The faces with the points that a recipe is about, and whole pictures for boxes where it takes these.

    Raises:
        KpdetectError: The faces have no such points, or none that is visible.
    """
    faces = labelled(annotations.select(recipe.points), "train") if recipe.points else annotations
    return on_whole_pictures(faces) if recipe.crop.around == "image" else faces


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
    skipped = faces.train.skipped
    if skipped:
        print(f"went on without {skipped} bad rows", file=sys.stderr)
