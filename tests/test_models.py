"""Architectures: the seeds' counts, the contract of input and output, and where exactly a heatmap's cell lies."""

import contextlib
import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

from kpdetect import models
from kpdetect.errors import KpdetectError
from kpdetect.models import ARCHITECTURES, SoftArgmax, count_parameters
from kpdetect.models.layers import cell_centers

# Keras 3.15 reads its own variables in a way that NumPy 2 is about to drop; nothing of ours is concerned.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# name -> points, input shape, trainable parameters: the seeds' own numbers where they state them.
FULL_SIZE = {
    "fourconv": (68, (224, 224, 1), 37_239_984),
    "batchnorm": (68, (224, 224, 1), 151_995_936),
    "twoconv": (68, (224, 224, 1), 7_645_896),
    "naimish": (68, (224, 224, 1), 19_989_896),
    "imm-nose": (1, (60, 80, 1), 100_740),
    "imm-full": (58, (180, 240, 1), 3_264_620),
    "ibug-large": (68, (224, 224, 1), 3_870_304),
}
# The smallest inputs that each lets through, about, so that tests stay quick; none is square.
SMALL = {
    "compact": (5, (48, 64, 1)),
    "fourconv": (5, (62, 64, 1)),
    "batchnorm": (5, (48, 46, 3)),
    "twoconv": (5, (32, 40, 1)),
    "naimish": (5, (94, 96, 1)),
    "imm-nose": (1, (60, 80, 1)),
    "imm-full": (5, (40, 48, 3)),
    "ibug-large": (5, (40, 48, 1)),
    "mobilenet": (5, (48, 64, 3)),
}


def without_memory() -> keras.StatelessScope:
    """Builds a network's shapes and none of its numbers: 152 million of them take seconds and 2 GB."""
    return keras.StatelessScope(initialize_variables=False)


@pytest.fixture
def forget_shapes():
    yield
    keras.backend.clear_session()  # or Keras would fill the unfilled variables in at the next chance


@contextlib.contextmanager
def policy(name):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def fresh_model(name):
    keras.utils.set_random_seed(0)
    return models.build(name, *SMALL[name])


@functools.cache
def small_model(name):
    """One for all tests that leave it as it is, and whose answer depends on the picture."""
    model = fresh_model(name)
    linear = [layer for layer in model.layers if layer.name == "linear"]
    for layer in linear:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel if kernel.any() else np.random.default_rng(0).normal(0, 0.2, kernel.shape), bias])
    return model


def pixels(shape, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.usefixtures("forget_shapes")
@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_seeds_networks_have_their_parameter_counts(name):
    num_keypoints, shape, parameters = FULL_SIZE[name]
    with without_memory():
        model = models.build(name, num_keypoints, shape)
    assert count_parameters(model) == parameters
    assert model.output_shape == (None, num_keypoints, 2)


@pytest.mark.usefixtures("forget_shapes")
def test_compact_fits_its_file():
    with without_memory():
        model = models.build("compact", 68, (112, 112, 1))
    assert model.count_params() <= 1_850_000  # running statistics too: 4 bytes each in the weight file
    assert 4 * model.count_params() < 7.5e6


def test_every_architecture_is_tested():
    assert set(SMALL) == set(ARCHITECTURES) == {"compact", "mobilenet", *FULL_SIZE}


@pytest.mark.parametrize("name", SMALL)
class TestContract:
    def test_names_shapes_and_types(self, name):
        num_keypoints, shape = SMALL[name]
        model = small_model(name)
        assert [tensor.name for tensor in model.inputs] == ["image"]
        assert model.output_names == ["keypoints"]
        assert model.input_shape == (None, *shape)
        assert model.output_shape == (None, num_keypoints, 2)
        assert model.outputs[0].dtype == "float32"

    def test_bytes_and_floats_give_the_same_finite_points(self, name):
        model, image = small_model(name), pixels(SMALL[name][1])
        from_bytes = ops.convert_to_numpy(model(image))
        assert np.isfinite(from_bytes).all()
        assert np.abs(from_bytes - 0.5).max() < 10  # relative to the crop, and no pixel of it
        np.testing.assert_array_equal(ops.convert_to_numpy(model(image.astype(np.float32))), from_bytes)

    def test_a_batch_equals_its_singles(self, name):
        model, image = small_model(name), pixels(SMALL[name][1], 3)
        together = ops.convert_to_numpy(model(image))
        alone = np.concatenate([ops.convert_to_numpy(model(image[i : i + 1])) for i in range(3)])
        np.testing.assert_allclose(together, alone, atol=1e-5)

    def test_its_config_and_weights_make_it_again(self, name, tmp_path):
        model, image = small_model(name), pixels(SMALL[name][1])
        again = type(model).from_config(json.loads(json.dumps(model.get_config())))
        rebuilt = models.build(name, *SMALL[name])
        model.save_weights(tmp_path / "model.weights.h5")
        for other in (again, rebuilt):
            other.load_weights(tmp_path / "model.weights.h5")
            np.testing.assert_array_equal(ops.convert_to_numpy(other(image)), ops.convert_to_numpy(model(image)))

    def test_mixed_precision_still_answers_in_float32(self, name):
        exact, image = small_model(name), pixels(SMALL[name][1])
        with policy("mixed_float16"):
            model = fresh_model(name)
        model.set_weights(exact.get_weights())
        answer = model(image)
        assert keras.backend.standardize_dtype(answer.dtype) == "float32"
        np.testing.assert_allclose(ops.convert_to_numpy(answer), ops.convert_to_numpy(exact(image)), atol=0.02)


def test_soft_argmax_stays_exact_in_half_precision():
    with policy("mixed_bfloat16"):  # eight bits: a cell's centre would be rounded by a third of a pixel
        layer = SoftArgmax()
    logits = np.zeros((1, 1, 112, 1), np.float32)
    logits[0, 0, 100] = 200
    assert ops.convert_to_numpy(layer(logits))[0, 0, 0] == pytest.approx(100.5 / 112, abs=1e-6)


def test_the_dense_heads_speak_relative_coordinates_of_their_target_scaling():
    model = fresh_model("fourconv")
    linear = model.get_layer("linear")
    linear.set_weights([np.zeros_like(linear.get_weights()[0]), np.tile([0.2, -0.4], 5)])
    height, width, _ = SMALL["fourconv"][1]
    x, y = ops.convert_to_numpy(model(pixels(SMALL["fourconv"][1])))[0, 3]
    assert x == pytest.approx((0.2 * 50 + 100 + 0.5) / width, rel=1e-5)
    assert y == pytest.approx((-0.4 * 50 + 100 + 0.5) / height, rel=1e-5)


@pytest.mark.parametrize("name", ["imm-nose", "naimish"])
def test_pixels_are_scaled_as_the_seeds_do(name):
    model = small_model(name)
    black, white = (-0.5, 0.5) if name == "imm-nose" else (0.0, 1.0)
    scaled = model.get_layer("scale_pixels")(np.array([0.0, 255.0]))
    np.testing.assert_allclose(ops.convert_to_numpy(scaled), [black, white], atol=1e-6)


def test_batch_normalisation_has_the_defaults_of_pytorch():
    layer = small_model("batchnorm").get_layer("conv1_norm")
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_mobilenets_cells_look_at_the_middle_of_their_own_pixels():
    """Cell i of stride 8 at pixel 8 i + 3, to which the last layer adds the half pixel: TensorFlow pads on one side."""
    model = fresh_model("mobilenet")
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            layer.set_weights([np.full_like(weight, 1 / weight[..., 0].size) for weight in layer.get_weights()])
    finest = keras.Model(model.input, model.get_layer("lateral8").input)
    image = np.full((1, 48, 64, 3), 200, np.float32)
    seen = []
    for column in range(64):  # which columns does the cell (3, 4) see? squeezing sees all, and far less of each
        image[0, :, column] += 50
        seen.append(float(ops.sum(finest(image)[0, 3, 4])))
        image[0, :, column] -= 50
    change = np.abs(np.array(seen) - np.median(seen))
    columns = np.nonzero(change > 1e-3 * change.max())[0]
    assert (columns.min() + columns.max()) / 2 == 8 * 4 + 3
    offset = model.get_layer("keypoints").offset
    np.testing.assert_allclose(offset, [0.5 / 64, 0.5 / 48])


def test_mobilenet_gathers_statistics_within_a_short_training():
    layers = [layer for layer in small_model("mobilenet").layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in layers} == {0.9}


@pytest.mark.parametrize("name", SMALL)
def test_layers_are_known_by_name(name):
    """Weights pass from model to model by the layer's name, so Keras must not number it."""
    once, again = (
        [layer.name for layer in model.layers if layer.weights] for model in (small_model(name), fresh_model(name))
    )
    assert once == again


@pytest.mark.parametrize("name", FULL_SIZE)
def test_kernels_start_as_he_et_al_draw_them(name):
    for layer in fresh_model(name).layers:
        if hasattr(layer, "kernel") and np.prod(layer.kernel.shape) > 2000 and np.any(layer.get_weights()[0]):
            fan_in = np.prod(layer.kernel.shape[:-1])
            spread = np.std(layer.get_weights()[0])
            assert spread == pytest.approx(np.sqrt(2 / fan_in), rel=0.1), layer.name


@pytest.mark.parametrize("name", ["imm-nose", "imm-full", "ibug-large"])
def test_without_a_target_scaling_the_first_guess_is_the_middle_of_the_crop(name):
    crops = pixels(SMALL[name][1]).astype(np.float32)
    np.testing.assert_allclose(fresh_model(name)(crops), 0.5)


def test_soft_argmax_of_a_peak_is_its_cells_centre():
    height, width = 3, 4
    for row, column in np.ndindex(height, width):
        logits = np.zeros((1, height, width, 1), np.float32)
        logits[0, row, column, 0] = 200
        point = ops.convert_to_numpy(SoftArgmax()(logits))[0, 0]
        np.testing.assert_allclose(point, [(column + 0.5) / width, (row + 0.5) / height], atol=1e-6)


def test_soft_argmax_keeps_points_apart_and_follows_a_mirror():
    logits = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32) * 3
    points = ops.convert_to_numpy(SoftArgmax()(logits))
    mirrored = ops.convert_to_numpy(SoftArgmax()(logits[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, [1, 0] + points * [-1, 1], atol=1e-6)
    second = ops.convert_to_numpy(SoftArgmax()(logits[1:, :, :, 2:]))
    np.testing.assert_allclose(second[0, 0], points[1, 2], atol=1e-6)


def test_soft_argmax_is_the_mean_under_a_softmax_worked_out_by_hand():
    logits = np.log(np.array([[1.0, 3.0]], np.float32)).reshape(1, 1, 2, 1)  # weights 1/4 and 3/4
    np.testing.assert_allclose(ops.convert_to_numpy(SoftArgmax()(logits))[0, 0], [0.25 / 4 + 0.75 * 3 / 4, 0.5])


def test_soft_argmax_needs_a_known_size():
    with pytest.raises(ValueError, match="known height and width"):
        SoftArgmax()(keras.Input((None, None, 3)))


def test_cells_lie_symmetrically():
    centers = cell_centers(28, 28)
    np.testing.assert_allclose(centers + centers[::-1], 1.0, atol=1e-6)


@pytest.mark.parametrize("size", [(112, 112), (80, 96)], ids=str)  # 7 and 5 cells at stride 16: odd sizes too
def test_compact_is_exact_about_half_pixels(size):
    """With kernels that are their own mirror images, a mirrored picture must give mirrored points: x -> 1 - x.

    One level whose cells stand half a cell off, as TensorFlow's ``same`` padding has it, and this fails.
    """
    keras.utils.set_random_seed(0)
    model = models.build("compact", 4, (*size, 1), {"widths": [8, 8, 8, 8], "blocks": [1, 1, 1], "pyramid_width": 8})
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = layer.get_weights()[0]
            layer.kernel.assign((kernel + kernel[:, ::-1] + kernel[::-1] + kernel[::-1, ::-1]) * 2)
    image = pixels((*size, 1))
    points = ops.convert_to_numpy(model(image))
    assert np.abs(points - 0.5).max() > 0.02  # it looks at something
    for axis, mirror in ((2, [1, 0]), (1, [0, 1])):
        sign = 1 - 2 * np.array(mirror)
        np.testing.assert_allclose(ops.convert_to_numpy(model(np.flip(image, axis))), mirror + sign * points, atol=1e-4)


def test_compact_takes_rgb_and_other_sizes():
    model = models.build("compact", 1, (64, 96, 3), {"widths": [8, 8, 16, 16], "blocks": [1, 1, 1]})
    points = ops.convert_to_numpy(model(pixels((64, 96, 3))))
    assert points.shape == (2, 1, 2)
    assert ((points > 0) & (points < 1)).all()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (("compct", 68, (112, 112, 1)), "no architecture 'compct': did you mean 'compact'"),
        (("compact", 68, (112, 100, 1)), "height and width that divide by 16, received 112x100"),
        (
            ("compact", 68, (112, 112, 1), {"width": 3}),
            "no option of architecture compact 'width': did you mean 'widths'",
        ),
        (("compact", 68, (112, 112, 1), {"blocks": [1]}), "3 counts of blocks"),
        (("naimish", 0, (224, 224, 1)), "at least one point"),
        (("naimish", 68, (32, 32, 1)), "the input is too small"),
        (("twoconv", 68, (224, 224, 1), {"widths": [1, 2, 3]}), "expected 2 widths"),
        (("mobilenet", 68, (112, 112, 1)), "expected RGB, 3 channels, received 1"),
        (("mobilenet", 68, (24, 112, 3)), "from 32 that divide by 8, received 24x112"),
    ],
)
def test_mistakes_have_one_clear_line(call, line):
    with pytest.raises(KpdetectError, match=line):
        models.build(*call)


def test_compact_upsamples_in_float32():
    """XLA has no gradient of bilinear upsampling in half precision: mixed precision with `jit_compile` would fail."""
    with policy("mixed_bfloat16"):
        model = models.build("compact", 2, (32, 32, 1))
    policies = {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.UpSampling2D)}
    assert policies == {"float32"}
