"""Small models with random weights, for tests of bundles, runtimes and exports."""

import dataclasses
from pathlib import Path

import numpy as np

from kpdetect.core.geometry import CropRule
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema
from kpdetect.modelfile.bundle import save_bundle
from kpdetect.modelfile.spec import Spec

SQUARE = KeypointSchema(
    name="square",
    point_names=("left_top", "right_top", "left_bottom", "right_bottom"),
    regions={"top": (0, 1), "bottom": (2, 3)},
    flip_permutation=(1, 0, 3, 2),
    normalizer_points=(0, 1),
)
"""The corners of a square, with left and right sides like a face."""

COMPACT = {"widths": [8, 8, 12, 16], "blocks": [1, 1, 1]}


def tiny(num_keypoints, input_shape):
    """An architecture of few layers, including batch normalisation with its statistics."""
    import keras

    from kpdetect.models.layers import OUTPUT_NAME, SoftArgmax, image_input, normalize

    image, x = image_input(input_shape)
    x = keras.layers.Conv2D(8, 8, strides=8, name="patches")(x)
    x = keras.layers.Activation("relu")(normalize(x, "normalize"))
    x = keras.layers.Conv2D(num_keypoints, 1, name="heatmaps")(x)
    return keras.Model(image, SoftArgmax(name=OUTPUT_NAME)(x), name="tiny")


def tiny_with_dropout(num_keypoints, input_shape):
    """Like `tiny`, with dropout of single values."""
    import keras

    from kpdetect.models.layers import OUTPUT_NAME, SoftArgmax, image_input, normalize

    image, x = image_input(input_shape)
    x = keras.layers.Conv2D(8, 8, strides=8, name="patches")(x)
    x = keras.layers.Activation("relu")(normalize(x, "normalize"))
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.Conv2D(num_keypoints, 1, name="heatmaps")(x)
    return keras.Model(image, SoftArgmax(name=OUTPUT_NAME)(x), name="tiny_with_dropout")


def small_spec(architecture="compact"):
    size, points, options = {
        "compact": ((32, 48), ["left_eye", "right_eye", "nose"], COMPACT),
        "imm-nose": ((60, 80), ["nose"], {}),
    }[architecture]
    row = {"dataset": "drawn", "split": "val", "boxes": "truth", "n": 3, "normaliser": "box", "nme": 4.5}
    return Spec(
        schema=user_schema(points),
        architecture=architecture,
        architecture_options=options,
        crop=CropRule(size, 1.35),
        channels=3 if architecture == "compact" else 1,
        recipe="small",
        data=("drawn",),
        terms="none",
        errors=(row,),
        uncertainty=architecture == "compact",
        extra={"seed": 7},
    )


def small_model(spec, seed=0):
    """A model of the spec's architecture with random weights, including statistics of batch normalisation."""
    import keras

    from kpdetect import models

    keras.utils.set_random_seed(seed)
    model = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
        elif layer.name == "linear":  # some architectures have the same initial output for every image
            layer.set_weights([random.normal(0, 0.2, weight.shape) for weight in layer.get_weights()])
    return model


def small_face_spec():
    """A spec of grey crops and three points that synthetic faces have."""
    schema = IBUG68.subset(["right_eye_outer", "left_eye_outer", "nose_tip"])
    return dataclasses.replace(small_spec(), schema=schema, channels=1)


def small_bundle(folder, architecture="compact", spec=None):
    """Writes a bundle and returns its folder."""
    spec = spec or small_spec(architecture)
    save_bundle(small_model(spec), spec, folder)
    return Path(folder)
