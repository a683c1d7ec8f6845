"""Owns whom a training learns from and whom it is validated on."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from kpdetect.datasets import Annotations, labelled, load, on_whole_pictures, split_by_rule
from kpdetect.errors import KpdetectError
from kpdetect.geometry import CropRule
from kpdetect.recipes import Recipe, TrainOptions


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
        KpdetectError: The two sets are labelled with different points, or one with none.
    """
    data = _read(options.data or recipe.demo_data, options, recipe, "train")
    if options.val_data is not None:
        val = _read(options.val_data, options, recipe, "validate")
        _check_same_scheme(data, val)
        faces = Faces(data, val, "all (checkpoint chosen on it)", {})
    else:
        rule = split_rule(data, recipe, options.seed)
        faces = Faces(*split_by_rule(data, rule), "val by subject (checkpoint chosen on it)", rule)
    _say_faces(faces)
    return faces


def split_rule(data: Annotations, recipe: Recipe, seed: int) -> dict[str, Any]:
    """How to hold out the validation part, for `split_by_rule`: the recipe's subjects where the data has them."""
    held_out = sorted(set(recipe.val_subjects) & set(data.subjects.tolist()))
    return {"val_subjects": held_out} if held_out else {"val_fraction": recipe.val_fraction, "seed": seed}


def _read(spec: str, options: TrainOptions, recipe: Recipe, purpose: str) -> Annotations:
    return as_recipe_takes(recipe, labelled(load(spec, options.skip_bad_rows), purpose))


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
