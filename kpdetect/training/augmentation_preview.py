"""Applies the augmentation of a recipe to a few faces, transform by transform, for a picture."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kpdetect.data import Annotations
from kpdetect.data.augmentation import Batch, Transform, augment
from kpdetect.data.labelled_faces import nan_where_invisible
from kpdetect.data.pipeline import build_cache
from kpdetect.data.pipeline.batches import as_tensors
from kpdetect.recipes import Recipe
from kpdetect.training.faces import select_for_recipe
from kpdetect.training.feeding import framing_of, transforms_of
from kpdetect.visualization import TransformRow


def transform_rows(annotations: Annotations, recipe: Recipe, seed: int) -> list[TransformRow]:
    """Rows of faces: as cached, after each transform alone, and after all transforms together.

    A transform with a probability always acts in its own row, and with its probability in the last row. All rows use
    the same seed, so that they share the random crop.

    Args:
        annotations: A few labelled faces.
        recipe: The recipe whose augmentation is shown.
        seed: Random seed.

    Returns:
        Rows for `kpdetect.visualization.transform_sheet`.

    Raises:
        DataError: Images cannot be read.
    """
    annotations = select_for_recipe(recipe, annotations)
    cache = build_cache(annotations, framing_of(recipe), recipe.channels)
    before = [picture[: int(h), : int(w)] for picture, (h, w) in zip(cache.images, cache.extents_hw, strict=True)]
    cached = (
        "as cached:\nface and\nsurroundings" if recipe.image_side is None else "as cached:\nwhole picture,\nrescaled"
    )
    rows = [TransformRow(cached, before, nan_where_invisible(cache.keypoints, annotations))]
    crop, *others = transforms_of(recipe, annotations.schema)
    batch = as_tensors(cache)
    lists = [(_label(crop), [crop]), *((_label(each), [crop, _always(each)]) for each in others)]
    for label, transforms in [*lists, ("all together", [crop, *others])]:
        rows.append(_transformed(label, batch, transforms, annotations, recipe, seed))
    return rows


def _transformed(
    label: str, batch: Batch, transforms: Sequence[Transform], annotations: Annotations, recipe: Recipe, seed: int
) -> TransformRow:
    made = augment(batch, transforms, annotations.schema, recipe.crop.size_hw, tf.constant([seed, 0]))
    images, points, visible = (np.asarray(part) for part in made)
    shown = np.where(visible[..., None] > 0, points, np.float32(np.nan))
    return TransformRow(label, list(np.rint(images).astype(np.uint8)), shown)


def _always(transform: Transform) -> Transform:
    """The transform with probability 1."""
    if dataclasses.is_dataclass(transform) and hasattr(transform, "probability"):
        return dataclasses.replace(transform, probability=1.0)
    return transform


def _label(transform: Transform) -> str:
    values: dict[str, object] = dataclasses.asdict(transform) if dataclasses.is_dataclass(transform) else {}
    lines = [f"{name} {_format_value(value)}" for name, value in values.items()]
    return "\n".join([type(transform).__name__, *lines, *(["(here: always)"] if "probability" in values else [])])


def _format_value(value: object) -> str:
    return "x".join(str(part) for part in value) if isinstance(value, tuple) else f"{value:g}"
