"""Owns looks into the works: what transforms make of faces, what a model predicts, what its first layer sees."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, image_box, to_pixels
from kpdetect.core.images import Pixels, read_image, warp_crop
from kpdetect.data import Annotations, on_whole_pictures
from kpdetect.data.augmentation import Batch, Transform, augment
from kpdetect.data.labelled_faces import mean_of_known, spread, visible_points
from kpdetect.data.pipeline import build_cache
from kpdetect.data.pipeline.batches import as_tensors
from kpdetect.data.pipeline.crops import evaluation_crops
from kpdetect.detection import FaceFinder
from kpdetect.evaluate import choose_split
from kpdetect.evaluation.evaluator import Measure, as_model_sees, predict_batches
from kpdetect.evaluation.metrics import nme_per_point, summary
from kpdetect.modelfile import runtime
from kpdetect.modelfile.spec import Spec
from kpdetect.recipes import Recipe
from kpdetect.training.faces import as_recipe_takes
from kpdetect.training.feeding import framing_of, transforms_of
from kpdetect.visualization import TransformRow


def start_tensorflow() -> None:
    """Lets TensorFlow look for its devices, which it tells of at length; so that a caller can hold that back."""
    tf.config.list_logical_devices()


@dataclass(frozen=True)
class Predictions:
    """What a model made of labelled faces, with the labels' boxes.

    Attributes:
        faces: The faces.
        caption: Model, data, mean error and how it was measured, in a line or two.
        crops: (N, H, W, C) uint8, what the model saw.
        true_px: (N, K, 2) in pixels of the crop; NaN where a point is not visible.
        predicted_px: (N, K, 2) in pixels of the crop.
        per_face: (N,) errors, fractions of the normaliser.
        per_point: (K,) mean errors; NaN where no face shows the point.
    """

    faces: Annotations
    caption: str
    crops: Pixels
    true_px: Floats
    predicted_px: Floats
    per_face: npt.NDArray[np.float64]
    per_point: npt.NDArray[np.float64]


def predictions_of(path: str, annotations: Annotations, split: str, count: int | None = None) -> Predictions:
    """Runs a model on labelled faces.

    Args:
        path: The model's folder or file.
        annotations: The faces.
        split: ``all`` or ``val``, as in `kpdetect evaluate`.
        count: How many faces, spread over the split; None takes all of them.

    Raises:
        KpdetectError: There is no such model, its points are not those of the data, or there is no face.
    """
    model = runtime.load(path)
    known = as_model_sees(model.spec, annotations)
    faces, split_in_words = choose_split(known, model.spec, split)
    faces = spread(faces, len(faces) if count is None else count)
    size_hw = model.spec.crop.size_hw
    crops, relative, _ = evaluation_crops(faces, model.spec.crop, model.spec.channels)
    truth, predicted = to_pixels(relative, size_hw), to_pixels(predict_batches(model, crops), size_hw)
    errors = nme_per_point(truth, predicted, faces.visible, faces.schema, float(size_hw[1]))
    per_face = Measure(faces, model.spec).per_face(truth, predicted)
    return Predictions(
        faces=faces,
        caption=f"{path} on {len(faces)} faces of {faces.name}, split: {split_in_words}; boxes: truth\n"
        f"NME {100 * summary(per_face).mean:.2f} % ({faces.schema.normalizer_name})",
        crops=crops,
        true_px=visible_points(truth, faces),
        predicted_px=predicted,
        per_face=per_face,
        per_point=mean_of_known(errors).astype(np.float64),
    )


def transform_rows(annotations: Annotations, recipe: Recipe, seed: int) -> list[TransformRow]:
    """Faces as they are cached, after each transform of a recipe by itself, and after all of them.

    A transform that is left to chance always acts in its own row, and with its chance in the last. All rows draw from
    the same seed, so that random crops lie alike.

    Raises:
        DataError: Images cannot be read.
    """
    annotations = as_recipe_takes(recipe, annotations)
    cache = build_cache(annotations, framing_of(recipe), recipe.channels)
    before = [picture[: int(h), : int(w)] for picture, (h, w) in zip(cache.images, cache.extents_hw, strict=True)]
    cached = (
        "as cached:\nthe face and\nits surroundings" if recipe.image_side is None else "as cached:\nall of it, rescaled"
    )
    rows = [TransformRow(cached, before, visible_points(cache.keypoints, annotations))]
    crop, *others = transforms_of(recipe, annotations.schema)
    batch = as_tensors(cache)
    lists = [(_label(crop), [crop]), *((_label(each), [crop, _certain(each)]) for each in others)]
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


def _certain(transform: Transform) -> Transform:
    """The transform without the chance that it does nothing."""
    if dataclasses.is_dataclass(transform) and hasattr(transform, "probability"):
        return dataclasses.replace(transform, probability=1.0)
    return transform


def _label(transform: Transform) -> str:
    values: dict[str, object] = dataclasses.asdict(transform) if dataclasses.is_dataclass(transform) else {}
    lines = [f"{name} {_in_words(value)}" for name, value in values.items()]
    return "\n".join([type(transform).__name__, *lines, *(["(here: always)"] if "probability" in values else [])])


def _in_words(value: object) -> str:
    return "x".join(str(part) for part in value) if isinstance(value, tuple) else f"{value:g}"


def first_convolution(model: keras.Model) -> keras.layers.Conv2D:
    """The first convolution that pixels go through.

    Raises:
        KpdetectError: The network has none, or it takes something else than grey or RGB.
    """
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if not found or found[0].kernel.shape[2] not in (1, 3):
        raise KpdetectError(f"network '{model.name}': no first convolution over a grey or RGB picture to show")
    return found[0]


def feature_maps_of(model: keras.Model, crop: Pixels) -> Floats:
    """What the first convolution gives for a crop (H, W, C) uint8, before anything follows it: (h, w, N)."""
    part = keras.Model(model.input, first_convolution(model).output)
    maps: Floats = np.asarray(part(crop[None].astype(np.float32), training=False), np.float32)
    return np.asarray(maps[0])


def face_of_image(image: str, spec: Spec, face: int) -> Pixels:
    """A crop around a face that the detector finds in a photograph, as the model takes it.

    Args:
        image: The photograph's file.
        spec: The model's description.
        face: Which one, from 0; the biggest is the first.

    Raises:
        KpdetectError: It is no image, or there is no such face.
    """
    photograph = read_image(image)
    if spec.crop.around == "image":
        return crop_of(photograph, image_box((photograph.shape[0], photograph.shape[1])), spec)
    boxes = FaceFinder()(photograph)
    if not len(boxes):
        raise KpdetectError(
            f"{image}: the detector found no face; name another photograph, or labelled faces by --data"
        )
    _check_face(image, face, len(boxes))
    return crop_of(photograph, boxes[face], spec)


def crop_of(photograph: Pixels, box_xyxy: Floats, spec: Spec) -> Pixels:
    """A box of a photograph (H, W, 3), as the model takes it."""
    return warp_crop(photograph, spec.crop.matrix(box_xyxy), spec.crop.size_hw, spec.channels)


def face_of_data(annotations: Annotations, spec: Spec, face: int) -> Pixels:
    """A crop around a labelled face, as the model takes it; `face` is its row, from 0.

    Raises:
        KpdetectError: There is no such face.
    """
    _check_face(f"'{annotations.name}'", face, len(annotations))
    one = annotations.take([face])
    if spec.crop.around == "image":
        one = on_whole_pictures(one)
    return np.asarray(evaluation_crops(one, spec.crop, spec.channels)[0][0])


def _check_face(where: str, face: int, count: int) -> None:
    if not 0 <= face < count:
        raise KpdetectError(f"{where}: expected --face from 0 to {count - 1}, received {face}")
