"""The command ``show``: draws pictures of data, transforms, trainings and models."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kpdetect import visualization
from kpdetect.core.errors import KpdetectError, MissingExtra, unknown_name
from kpdetect.core.geometry import CropRule
from kpdetect.core.keras_backend import start_tensorflow
from kpdetect.core.options import option, parse_options, quietly, run_command
from kpdetect.core.schema import SCHEMAS
from kpdetect.data import Annotations, drop_unlabelled, load, morphed_faces
from kpdetect.data.labelled_faces import crop_faces, mean_layout, read_history, select_evenly
from kpdetect.inference.model_input import face_of_data, face_of_image
from kpdetect.modelfile.bundle import load_bundle, read_spec
from kpdetect.modelfile.inspection import shipped_models_table
from kpdetect.recipes import TrainOptions, choose_recipe

LABEL_CROP = CropRule((480, 480), 1.25)  # large enough for numbers, with a margin around the jaw


@dataclass(frozen=True, kw_only=True)
class LabelledFaces:
    """Options of pictures of labelled faces."""

    data: str = option("synthetic:64", "labelled faces, as for train; drawn faces by default", metavar="SPEC")
    skip_bad_rows: bool = option(False, "leave out invalid rows and report their number")

    def load(self) -> Annotations:
        """Reads the faces; those without any point are left out."""
        return drop_unlabelled(load(self.data, self.skip_bad_rows), "show")


@dataclass(frozen=True, kw_only=True)
class MeasuredFaces(LabelledFaces):
    """Options of pictures of a model's predictions."""

    model: str = option(dataclasses.MISSING, "run or bundle folder, .tflite, .onnx or SavedModel")
    split: str = option("all", "all faces, or those of the validation subjects", choices=("all", "val"))


@dataclass(frozen=True, kw_only=True)
class KeypointsOptions(LabelledFaces):
    """Draws labelled faces with the numbers of their points."""

    count: int = option(4, "number of faces, evenly spread over the set", metavar="N")
    morphed: bool = option(False, "morphed faces instead, as augmentation.morphed makes them")
    out: str = option("out/keypoints.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class SchemeOptions:
    """Draws a scheme of points: numbers, names, groups, and left-right pairs."""

    scheme: str | None = option(None, f"a scheme by name: {', '.join(SCHEMAS)}; that of --data by default")
    data: str | None = option(None, "labelled faces whose mean is drawn", metavar="SPEC")
    skip_bad_rows: bool = option(False, "leave out invalid rows and report their number")
    out: str = option("out/scheme.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class TransformsOptions(LabelledFaces):
    """Draws faces and points before and after each transform of a recipe, and after all of them."""

    recipe: str = option("compact", "the recipe")
    count: int = option(5, "number of faces, evenly spread over the set", metavar="N")
    seed: int = option(0, "seed of the random transforms", metavar="N")
    out: str = option("out/transforms.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class CurvesOptions:
    """Draws the learning curves of a training, which may still run."""

    run: str = option("runs/compact-112", "run folder, or its history.csv", positional=True)
    out: str = option("out/curves.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class PredictionsOptions(MeasuredFaces):
    """Draws a model's predictions and the labels, on several faces."""

    count: int = option(20, "number of faces, evenly spread over the set", metavar="N")
    out: str = option("out/predictions.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class KernelsOptions:
    """Draws the kernels of a model's first layer."""

    model: str = option(dataclasses.MISSING, "run or bundle folder with weights")
    out: str = option("out/kernels.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class FeatureMapsOptions:
    """Draws the feature maps of a model's first layer for a face."""

    model: str = option(dataclasses.MISSING, "run or bundle folder with weights")
    image: str | None = option(None, "a photograph, whose faces are detected", metavar="FILE")
    data: str | None = option(None, "labelled faces instead (default: synthetic:64)", metavar="SPEC")
    skip_bad_rows: bool = option(False, "leave out invalid rows and report their number")
    face: int = option(0, "the number of the face, from 0: by size in a photograph, by row in data", metavar="N")
    out: str = option("out/feature-maps.png", "the file to write", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class ErrorsOptions(MeasuredFaces):
    """Draws the mean error of each point on a mean face."""

    out: str = option("out/errors.png", "the file to write", metavar="FILE")


@dataclass(frozen=True)
class ModelsOptions:
    """Prints a table of the packaged models: name, points, input, size and error."""


MODELS = "models"  # the one subcommand that draws no picture


def draw_keypoints(options: KeypointsOptions) -> None:
    """Draws labelled faces with numbers."""
    count, labels = _positive("count", options.count), options.load()
    faces = morphed_faces(labels, count) if options.morphed else select_evenly(labels, count)
    crops, points = crop_faces(faces, LABEL_CROP)
    titles = [_short(path) for path in faces.paths.tolist()]
    visualization.keypoint_sheet(crops, points, faces.schema, titles, options.out)


def draw_scheme(options: SchemeOptions) -> None:
    """Draws a scheme on the mean face of the data, of drawn faces by default."""
    if options.scheme is not None and options.scheme not in SCHEMAS:
        raise unknown_name("scheme", options.scheme, SCHEMAS)
    faces = drop_unlabelled(load(options.data or "synthetic:500", options.skip_bad_rows), "show")
    if options.scheme not in (None, faces.schema.name):
        raise KpdetectError(
            f"--scheme {options.scheme}: '{faces.name}' has scheme '{faces.schema.name}'; "
            f"give labelled faces of scheme '{options.scheme}' with --data"
        )
    visualization.scheme_page(mean_layout(faces), faces.schema, options.out)


def draw_transforms(options: TransformsOptions) -> None:
    """Draws faces before and after each transform."""
    recipe = choose_recipe(TrainOptions(recipe=options.recipe))
    faces = select_evenly(options.load(), _positive("count", options.count))
    _start_tensorflow("transforms")
    from kpdetect.training.augmentation_preview import transform_rows

    rows = transform_rows(faces, recipe, options.seed)
    caption = f"recipe {recipe.name} on {faces.name}: before, after each transform alone, after all of them"
    schema = faces.select(recipe.points).schema if recipe.points else faces.schema
    visualization.transform_sheet(rows, schema, caption, options.out)


def draw_curves(options: CurvesOptions) -> None:
    """Draws learning curves."""
    visualization.learning_curves(read_history(options.run), options.out)


def draw_predictions(options: PredictionsOptions) -> None:
    """Draws predictions and labels."""
    count = _positive("count", options.count)
    read_spec(options.model)  # reports a wrong name before TensorFlow starts
    _start_tensorflow("predictions")
    from kpdetect.evaluation.predictions import predictions_of

    made = predictions_of(options.model, options.load(), options.split, count)
    visualization.prediction_sheet(
        made.crops, made.true_px, made.predicted_px, made.per_face, options.out, made.caption, made.faces.schema
    )


def draw_kernels(options: KernelsOptions) -> None:
    """Draws the kernels of the first layer."""
    read_spec(options.model)
    _start_tensorflow("kernels")
    layer = visualization.first_convolution(load_bundle(options.model)[0])
    kernels = np.asarray(layer.kernel)
    visualization.kernel_sheet(kernels, _layer_in_words(options.model, layer), options.out)


def draw_feature_maps(options: FeatureMapsOptions) -> None:
    """Draws the feature maps of the first layer."""
    if options.image is not None and options.data is not None:
        raise KpdetectError("expected --image (a photograph) or --data (labelled faces), received both; choose one")
    if options.image is not None and os.path.realpath(options.image) == os.path.realpath(options.out):
        raise KpdetectError(f"--out {options.out}: would replace the photograph; choose another file")
    read_spec(options.model)
    _start_tensorflow("feature maps")
    model, spec = load_bundle(options.model)
    if options.image is not None:
        crop = face_of_image(options.image, spec, options.face)
    else:
        faces = load(options.data or "synthetic:64", options.skip_bad_rows)
        crop = face_of_data(faces, spec, options.face)
    layer, maps = visualization.first_convolution(model), visualization.feature_maps_of(model, crop)
    visualization.feature_maps(crop, np.asarray(layer.kernel), maps, _layer_in_words(options.model, layer), options.out)


def draw_errors(options: ErrorsOptions) -> None:
    """Draws the error of each point."""
    read_spec(options.model)
    _start_tensorflow("errors")
    from kpdetect.evaluation.predictions import predictions_of

    made = predictions_of(options.model, options.load(), options.split)
    visualization.point_errors(mean_layout(made.faces), made.per_point, made.faces.schema, made.caption, options.out)


@dataclass(frozen=True)
class Picture:
    """A picture that the command draws.

    Attributes:
        options: The class of its options, with a field ``out``; the docstring describes the picture.
        draw: Draws it.
        example: An example of the options.
    """

    options: type
    draw: Callable[[Any], None]
    example: str


PICTURES = {
    "keypoints": Picture(KeypointsOptions, draw_keypoints, "--data csv:faces.csv --count 6"),
    "scheme": Picture(SchemeOptions, draw_scheme, "--scheme ibug68"),
    "transforms": Picture(TransformsOptions, draw_transforms, "--recipe compact --count 4"),
    "curves": Picture(CurvesOptions, draw_curves, "runs/compact-112"),
    "predictions": Picture(PredictionsOptions, draw_predictions, "--model runs/compact-112 --data csv:faces.csv"),
    "kernels": Picture(KernelsOptions, draw_kernels, "--model runs/compact-112"),
    "feature-maps": Picture(FeatureMapsOptions, draw_feature_maps, "--model runs/compact-112 --image photo.jpg"),
    "errors": Picture(ErrorsOptions, draw_errors, "--model runs/compact-112 --data csv:faces.csv"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``show``: the first word names the picture."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] == MODELS:
        parse_options(ModelsOptions, words[1:], f"show {MODELS}", f"python -m kpdetect.show {MODELS}")
        print(shipped_models_table())
        return 0
    if words[0] not in PICTURES:
        raise unknown_name("picture", words[0], [*PICTURES, MODELS])
    picture = PICTURES[words[0]]
    example = f"python -m kpdetect.show {words[0]} {picture.example} --out picture.png"
    options: Any = parse_options(picture.options, words[1:], f"show {words[0]}", example)
    visualization.check_target(options.out)
    picture.draw(options)
    print(options.out)
    return 0


def _help() -> str:
    lines = [f"  {name:13} {picture.options.__doc__}" for name, picture in PICTURES.items()]
    lines.append(f"  {MODELS:13} {ModelsOptions.__doc__}")
    usage = "usage: kpdetect show PICTURE …    (kpdetect show PICTURE --help for its options)"
    return "\n".join([usage, "", *lines, "", "example:\n  python -m kpdetect.show keypoints --count 6 --out faces.png"])


def _short(path: str) -> str:
    """The name of a file; an address, such as those of drawn faces, is unchanged."""
    return path if "://" in path else os.path.basename(path)


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise KpdetectError(f"--{name}: expected 1 or more, received {number}")
    return number


def _start_tensorflow(needed_for: str) -> None:
    """Starts TensorFlow without its messages."""
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtra("TensorFlow", "train", needed_for)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    with quietly("starting TensorFlow"):
        start_tensorflow()


def _layer_in_words(model: str, layer: Any) -> str:
    height, width, channels, count = layer.kernel.shape
    color = "RGB" if channels == 3 else "grey"
    return f"{model}: layer '{layer.name}', {count} kernels of {height}x{width} {color} pixels"


if __name__ == "__main__":
    sys.exit(run_command(main))
