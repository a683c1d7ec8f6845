"""Architectures: parameter counts, input and output, soft-argmax, and exact positions of heatmap cells."""

import contextlib
import functools
import json

import keras
import numpy as np
import pytest
from keras import ops
from messages import mentions

from kpdetect import models
from kpdetect.core.errors import KpdetectError
from kpdetect.models import ARCHITECTURES, ExpectedError, SoftArgmax, count_parameters
from kpdetect.models.heatmaps import doubled
from kpdetect.models.layers import USUAL_SPREAD, cell_centers

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# name -> points, input shape, trainable parameters: those of the student projects where they state them.
FULL_SIZE = {
    "fourconv": (68, (224, 224, 1), 37_239_984),
    "batchnorm": (68, (224, 224, 1), 151_995_936),
    "twoconv": (68, (224, 224, 1), 7_645_896),
    "naimish": (68, (224, 224, 1), 19_989_896),
    "imm-nose": (1, (60, 80, 1), 100_740),
    "imm-full": (58, (180, 240, 1), 3_264_620),
    "ibug-large": (68, (224, 224, 1), 3_870_304),
}
# About the smallest input that each accepts, for quick tests; none is square.
SMALL = {
    "compact": (5, (48, 64, 1)),
    "fourconv": (5, (62, 64, 1)),
    "batchnorm": (5, (48, 46, 3)),
    "twoconv": (5, (32, 40, 1)),
    "naimish": (5, (94, 96, 1)),
    "imm-nose": (1, (60, 80, 1)),
    "imm-full": (5, (40, 48, 3)),
    "ibug-large": (5, (40, 48, 1)),
    "efficientnet": (5, (48, 64, 1)),
    "mobilenet": (5, (48, 64, 3)),
}
TELL_UNCERTAINTY = {"compact", "efficientnet"}
# The smallest inputs of the architectures that are exact to half a pixel.
EXACT = {
    "compact": {"widths": [8, 8, 8, 8], "blocks": [1, 1, 1]},
    "efficientnet": {"width": 0.2, "blocks": [1, 1, 1, 1, 1], "context": 8},
}


def without_memory() -> keras.StatelessScope:
    """Builds a network without allocating weights: 152 million would take seconds and 2 GB."""
    return keras.StatelessScope(initialize_variables=False)


@pytest.fixture
def forget_shapes():
    yield
    keras.backend.clear_session()  # otherwise Keras initializes the variables later


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
    """A model shared by tests that do not change it; its output depends on the image."""
    model = fresh_model(name)
    linear = [layer for layer in model.layers if layer.name == "linear"]
    for layer in linear:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel if kernel.any() else np.random.default_rng(0).normal(0, 0.2, kernel.shape), bias])
    return model


def pixels(shape, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def told(model, image):
    """The outputs of a network, or of its training model, by name."""
    return {name: ops.convert_to_numpy(tensor) for name, tensor in models.split_joined(model(image)).items()}


def assert_same(one, other, atol=0.0):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.usefixtures("forget_shapes")
@pytest.mark.parametrize("name", FULL_SIZE)
def test_networks_of_student_projects_have_their_parameter_counts(name):
    num_keypoints, shape, parameters = FULL_SIZE[name]
    with without_memory():
        model = models.build(name, num_keypoints, shape)
    assert count_parameters(model) == parameters
    assert model.output_shape == (None, num_keypoints, 2)


@pytest.mark.usefixtures("forget_shapes")
def test_compact_is_small():
    with without_memory():
        model = models.build("compact", 68, (112, 112, 1))
    assert model.count_params() <= 1_850_000  # including running statistics, 4 bytes each in the weight file
    assert 4 * model.count_params() < 7.5e6


def test_every_architecture_is_tested():
    assert set(SMALL) == set(ARCHITECTURES) == {"compact", "efficientnet", "mobilenet", *FULL_SIZE}


@pytest.mark.parametrize("name", SMALL)
class TestContract:
    def test_names_shapes_and_types(self, name):
        num_keypoints, shape = SMALL[name]
        model = small_model(name)
        assert [tensor.name for tensor in model.inputs] == ["image"]
        assert model.input_shape == (None, *shape)
        shapes = {"keypoints": (None, num_keypoints, 2)}
        if name in TELL_UNCERTAINTY:
            shapes["uncertainty"] = (None, num_keypoints)
        else:
            assert model.output_names == ["keypoints"]
            assert model.output_shape == shapes["keypoints"]
        outputs = models.named_outputs(model)
        assert {output: tensor.shape for output, tensor in outputs.items()} == shapes
        assert {tensor.dtype for tensor in outputs.values()} == {"float32"}

    def test_uint8_and_float_inputs_give_the_same_finite_points(self, name):
        model, image = small_model(name), pixels(SMALL[name][1])
        from_bytes = told(model, image)
        assert all(np.isfinite(array).all() for array in from_bytes.values())
        assert np.abs(from_bytes["keypoints"] - 0.5).max() < 10  # relative to the crop, not in pixels
        if name in TELL_UNCERTAINTY:
            assert (from_bytes["uncertainty"] > 0).all()
            assert (from_bytes["uncertainty"] < 1).all()
        assert_same(told(model, image.astype(np.float32)), from_bytes)

    def test_a_batch_equals_its_singles(self, name):
        model, image = small_model(name), pixels(SMALL[name][1], 3)
        alone = [told(model, image[i : i + 1]) for i in range(3)]
        joined = {output: np.concatenate([one[output] for one in alone]) for output in alone[0]}
        assert_same(told(model, image), joined, atol=1e-5)

    def test_a_model_is_restored_from_config_and_weights(self, name, tmp_path):
        model, image = small_model(name), pixels(SMALL[name][1])
        again = type(model).from_config(json.loads(json.dumps(model.get_config())))
        rebuilt = models.build(name, *SMALL[name])
        model.save_weights(tmp_path / "model.weights.h5")
        for other in (again, rebuilt):
            other.load_weights(tmp_path / "model.weights.h5")
            assert_same(told(other, image), told(model, image))

    def test_mixed_precision_outputs_float32(self, name):
        exact, image = small_model(name), pixels(SMALL[name][1])
        with policy("mixed_float16"):
            model = fresh_model(name)
            views = model, models.for_training(model)
        model.set_weights(exact.get_weights())
        for view in views:
            answer = told(view, image)
            assert {array.dtype.name for array in answer.values()} == {"float32"}
            assert_same(answer, told(exact, image), atol=0.02)

    def test_the_training_model_is_the_same_network_with_one_output(self, name):
        model, image = fresh_model(name), pixels(SMALL[name][1])
        view = models.for_training(model)
        if name not in TELL_UNCERTAINTY:
            assert view is model
            return
        assert view.output_shape == (None, SMALL[name][0], 3)
        view.get_layer("heatmaps4").kernel.assign_add(view.get_layer("heatmaps4").kernel)  # the weights are shared
        assert_same(told(view, image), told(model, image))
        assert view.name == model.name
        assert [layer.name for layer in view.layers if layer.weights] == [
            layer.name for layer in model.layers if layer.weights
        ]


def test_soft_argmax_is_exact_in_half_precision():
    with policy("mixed_bfloat16"):  # bfloat16 would round the centre of a cell by a third of a pixel
        layer = SoftArgmax()
    logits = np.zeros((1, 1, 112, 1), np.float32)
    logits[0, 0, 100] = 200
    assert ops.convert_to_numpy(layer(logits))[0, 0, 0] == pytest.approx(100.5 / 112, abs=1e-6)


def test_dense_heads_output_relative_coordinates_after_target_scaling():
    model = fresh_model("fourconv")
    linear = model.get_layer("linear")
    linear.set_weights([np.zeros_like(linear.get_weights()[0]), np.tile([0.2, -0.4], 5)])
    height, width, _ = SMALL["fourconv"][1]
    x, y = ops.convert_to_numpy(model(pixels(SMALL["fourconv"][1])))[0, 3]
    assert x == pytest.approx((0.2 * 50 + 100 + 0.5) / width, rel=1e-5)
    assert y == pytest.approx((-0.4 * 50 + 100 + 0.5) / height, rel=1e-5)


@pytest.mark.parametrize("name", ["imm-nose", "naimish"])
def test_pixels_are_scaled_as_in_the_student_projects(name):
    model = small_model(name)
    black, white = (-0.5, 0.5) if name == "imm-nose" else (0.0, 1.0)
    scaled = model.get_layer("scale_pixels")(np.array([0.0, 255.0]))
    np.testing.assert_allclose(ops.convert_to_numpy(scaled), [black, white], atol=1e-6)


def test_batch_normalisation_has_the_defaults_of_pytorch():
    layer = small_model("batchnorm").get_layer("conv1_norm")
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


@pytest.mark.slow
def test_receptive_fields_of_mobilenet_are_centred_on_their_cells():
    """Cell i of stride 8 is centred at pixel 8 i + 3 (one-sided padding); the last layer adds half a pixel."""
    model = fresh_model("mobilenet")
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            layer.set_weights([np.full_like(weight, 1 / weight[..., 0].size) for weight in layer.get_weights()])
    finest = keras.Model(model.input, model.get_layer("lateral8").input)
    image = np.full((1, 48, 64, 3), 200, np.float32)
    seen = []
    # Columns that change cell (3, 4); squeeze-and-excitation adds a small effect of every column.
    for column in range(64):
        image[0, :, column] += 50
        seen.append(float(ops.sum(finest(image)[0, 3, 4])))
        image[0, :, column] -= 50
    change = np.abs(np.array(seen) - np.median(seen))
    columns = np.nonzero(change > 1e-3 * change.max())[0]
    assert (columns.min() + columns.max()) / 2 == 8 * 4 + 3
    offset = model.get_layer("keypoints").offset
    np.testing.assert_allclose(offset, [0.5 / 64, 0.5 / 48])


def test_mobilenet_updates_its_statistics_within_a_short_training():
    layers = [layer for layer in small_model("mobilenet").layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in layers} == {0.9}


@pytest.mark.parametrize("name", SMALL)
def test_layers_have_fixed_names(name):
    """Weights are transferred by layer name, so Keras must not number layers."""
    once, again = (
        [layer.name for layer in model.layers if layer.weights] for model in (small_model(name), fresh_model(name))
    )
    assert once == again


@pytest.mark.parametrize("name", FULL_SIZE)
def test_kernels_have_he_initialization(name):
    for layer in fresh_model(name).layers:
        if layer.name == "linear":
            continue  # see the next two tests
        if hasattr(layer, "kernel") and np.prod(layer.kernel.shape) > 2000 and np.any(layer.get_weights()[0]):
            fan_in = np.prod(layer.kernel.shape[:-1])
            spread = np.std(layer.get_weights()[0])
            assert spread == pytest.approx(np.sqrt(2 / fan_in), rel=0.1), layer.name


@pytest.mark.parametrize("name", ["fourconv", "batchnorm", "twoconv", "naimish"])
def test_the_last_layer_with_target_scaling_has_the_initialization_of_pytorch(name):
    kernel, bias = fresh_model(name).get_layer("linear").get_weights()
    limit = len(kernel) ** -0.5
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    assert 0 < np.abs(bias).max() <= limit


def test_naimish_has_optional_batch_normalisation():
    def normalised(**options):
        layers = models.build("naimish", *SMALL["naimish"], options).layers
        return [layer.name for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]

    assert normalised() == []
    hidden = [*(f"conv{number}" for number in range(1, 6)), "dense1", "dense2"]
    assert normalised(batch_norm=True) == [f"{name}_norm" for name in hidden]


@pytest.mark.parametrize(("target_px", "first"), [((100.0, 50.0), 100.0), ((50, 25), 50.0)])
def test_scaled_targets_of_naimish_have_a_mean_and_a_deviation(target_px, first):
    model = models.build("naimish", *SMALL["naimish"], {"target_px": target_px})
    kernel, bias = model.get_layer("linear").get_weights()
    height, width = SMALL["naimish"][1][:2]
    outputs = []
    for scaled in (0.0, 1.0):
        model.get_layer("linear").set_weights([np.zeros_like(kernel), np.full_like(bias, scaled)])
        points = np.asarray(model(np.zeros((1, height, width, 1), np.float32)))[0]
        outputs.append(points * (width, height) - 0.5)
    np.testing.assert_allclose(outputs[0], first, atol=1e-4)
    np.testing.assert_allclose(outputs[1] - outputs[0], target_px[1], atol=1e-4)


@pytest.mark.parametrize("target_px", [(100,), (100, 0), (100, -50)])
def test_scaled_targets_need_a_mean_and_a_positive_deviation(target_px):
    with pytest.raises(KpdetectError, match=mentions("target_px", str(list(target_px)))):
        models.build("naimish", *SMALL["naimish"], {"target_px": target_px})


def test_fourconv_has_dropout_after_the_dense_layer_only_by_default():
    def dropped(**options):
        model = models.build("fourconv", *SMALL["fourconv"], options)
        return {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}

    assert dropped() == {"dense1_dropout": 0.4}
    everywhere = [*(f"conv{number}_dropout" for number in range(1, 5)), "dense1_dropout"]
    assert dropped(dropout_everywhere=True, dropout=0.3) == dict.fromkeys(everywhere, 0.3)


@pytest.mark.parametrize("name", ["imm-nose", "imm-full", "ibug-large"])
def test_without_target_scaling_initial_predictions_are_the_crop_centre(name):
    crops = pixels(SMALL[name][1]).astype(np.float32)
    np.testing.assert_allclose(fresh_model(name)(crops), 0.5)


def test_soft_argmax_of_a_peak_is_the_centre_of_its_cell():
    height, width = 3, 4
    for row, column in np.ndindex(height, width):
        logits = np.zeros((1, height, width, 1), np.float32)
        logits[0, row, column, 0] = 200
        point = ops.convert_to_numpy(SoftArgmax()(logits))[0, 0]
        np.testing.assert_allclose(point, [(column + 0.5) / width, (row + 0.5) / height], atol=1e-6)


def test_soft_argmax_separates_points_and_commutes_with_a_mirror():
    logits = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32) * 3
    points = ops.convert_to_numpy(SoftArgmax()(logits))
    mirrored = ops.convert_to_numpy(SoftArgmax()(logits[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, [1, 0] + points * [-1, 1], atol=1e-6)
    second = ops.convert_to_numpy(SoftArgmax()(logits[1:, :, :, 2:]))
    np.testing.assert_allclose(second[0, 0], points[1, 2], atol=1e-6)


def test_soft_argmax_equals_the_value_by_hand():
    logits = np.log(np.array([[1.0, 3.0]], np.float32)).reshape(1, 1, 2, 1)  # weights 1/4 and 3/4
    np.testing.assert_allclose(ops.convert_to_numpy(SoftArgmax()(logits))[0, 0], [0.25 / 4 + 0.75 * 3 / 4, 0.5])


def spread_of(weights):
    """The spread output of soft-argmax for heatmaps (B, H, W, K) of positive weights."""
    _, spread = SoftArgmax(spread=True)(np.log(weights).astype(np.float32))
    return ops.convert_to_numpy(spread)


def test_the_spread_is_the_standard_deviation_of_the_heatmap():
    weights = np.random.default_rng(0).uniform(0.01, 1, (3, 6, 9, 4))
    places = cell_centers(6, 9).reshape(1, 6, 9, 1, 2)
    share = (weights / weights.sum(axis=(1, 2), keepdims=True))[..., None]
    mean = (share * places).sum(axis=(1, 2), keepdims=True)
    variance = (share * (places - mean) ** 2).sum(axis=(1, 2, 4))
    np.testing.assert_allclose(spread_of(weights), np.sqrt(variance), rtol=1e-4)


def test_the_spread_equals_the_value_by_hand():
    weights = np.ones((1, 1, 2, 1))  # two cells, each a quarter of the crop from the centre
    np.testing.assert_allclose(spread_of(weights), [[0.25]], rtol=1e-4)


@pytest.mark.parametrize("cell", [(0, 0), (13, 14), (27, 27), (0, 27)])
def test_a_heatmap_of_one_cell_has_almost_no_spread(cell):
    """The difference of squares in float32 must be small also in the corners."""
    weights = np.full((1, 28, 28, 1), 1e-30)
    weights[0, *cell] = 1
    assert 0 < spread_of(weights)[0, 0] < 0.002  # a fifth of a pixel of 112


def test_the_spread_output_does_not_change_the_points():
    logits = np.random.default_rng(1).normal(size=(2, 6, 5, 3)).astype(np.float32)
    points, spread = SoftArgmax(spread=True)(logits)
    np.testing.assert_allclose(points, SoftArgmax()(logits), atol=1e-6)
    mirrored = SoftArgmax(spread=True)(logits[:, :, ::-1])[1]
    np.testing.assert_allclose(spread, mirrored, rtol=1e-4)


@pytest.mark.parametrize("spread", [False, True])
def test_soft_argmax_computes_its_shapes_and_round_trips_through_its_config(spread):
    layer = SoftArgmax(spread=spread, name="points")
    again = keras.layers.deserialize(json.loads(json.dumps(keras.layers.serialize(layer))))
    assert (again.spread, again.name, again.compute_dtype) == (spread, "points", "float32")
    symbolic = again(keras.Input((6, 5, 3)))
    shapes = tuple(part.shape for part in symbolic) if spread else symbolic.shape
    assert shapes == again.compute_output_shape((None, 6, 5, 3))
    assert shapes == (((None, 3, 2), (None, 3)) if spread else (None, 3, 2))


@pytest.mark.parametrize("size", [(28, 28), (7, 28), (20, 24)], ids=str)
def test_cell_positions_and_their_squares_are_exact_in_half_precision(size):
    layer = SoftArgmax(spread=True)
    layer.build((None, *size, 3))
    assert layer._cells.shape == (size[0] * size[1], 4)
    assert len(np.unique(layer._cells[:, :2], axis=0)) == size[0] * size[1]
    np.testing.assert_array_equal(layer._cells.astype(np.float16).astype(np.float32), layer._cells)


def expected_error(count=4):
    layer = ExpectedError()
    layer.build((None, count))
    return layer


@pytest.mark.parametrize("factor", [0.5, 3.0, [0.5, 1.0, 2.0, 7.0]])
def test_calibration_multiplies_the_predicted_errors(factor):
    layer, spread = expected_error(), np.float32([[0.01, 0.03, 0.05, 0.2], [0.02, 0.02, 0.02, 0.02]])
    layer.slope.assign([0.5, 1.0, 1.5, 2.0])
    before = ops.convert_to_numpy(layer(spread))
    layer.calibrate(factor)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(spread)), before * factor, rtol=1e-5)


def test_the_predicted_error_increases_with_the_spread():
    spreads = np.linspace(0.005, 0.4, 30, dtype=np.float32)[:, None]
    said = ops.convert_to_numpy(expected_error(1)(spreads))[:, 0]
    assert (np.diff(said) > 0).all()
    assert (said > 0).all()


def test_the_expected_error_equals_the_value_by_hand():
    layer = expected_error(2)
    layer.level.assign(np.log([0.01, 0.02]))
    layer.slope.assign([1.0, 2.0])
    said = ops.convert_to_numpy(layer(np.float32([[USUAL_SPREAD, USUAL_SPREAD], [2 * USUAL_SPREAD, 3 * USUAL_SPREAD]])))
    np.testing.assert_allclose(said, [[0.01, 0.02], [0.02, 0.18]], rtol=1e-5)


def test_soft_argmax_needs_a_known_size():
    with pytest.raises(ValueError, match=mentions("height", "width")):
        SoftArgmax()(keras.Input((None, None, 3)))


def test_cells_are_symmetric():
    centers = cell_centers(28, 28)
    np.testing.assert_allclose(centers + centers[::-1], 1.0, atol=1e-6)


def draw_kernels(model, their_own_mirror_images=False):
    """Sets kernels that propagate the image to every depth, unlike Keras' initialization of depthwise ones."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            height, width, inputs, _ = layer.kernel.shape
            fan_in = height * width * (inputs if isinstance(layer, keras.layers.Conv2D) else 1)
            # Not much larger: single-peak heatmaps could hide a shift of half a cell at a deep level.
            kernel = rng.normal(0, np.sqrt(1.2 / fan_in), layer.kernel.shape)
            if their_own_mirror_images:
                kernel = (kernel + kernel[:, ::-1] + kernel[::-1] + kernel[::-1, ::-1]) / 2
            layer.kernel.assign(kernel)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("size", [(112, 112), (80, 96)], ids=str)  # 7 and 5 cells at stride 16: also odd sizes
def test_networks_without_half_pixel_shifts_are_mirror_equivariant(name, size):
    """With symmetric kernels, a mirrored image must give mirrored points: x -> 1 - x.

    The test fails if the cells of one level are shifted by half a cell, as with TensorFlow's ``same`` padding.
    """
    keras.utils.set_random_seed(0)
    model = models.build(name, 4, (*size, 1), EXACT[name])
    draw_kernels(model, their_own_mirror_images=True)
    image = pixels((*size, 1))
    plain = told(model, image)
    assert np.abs(plain["keypoints"] - 0.5).max() > 0.02  # the output depends on the image
    assert plain["uncertainty"].min() > 0.01  # many cells contribute to every heatmap
    assert np.ptp(plain["uncertainty"]) > 1e-3
    for axis, mirror in ((2, [1, 0]), (1, [0, 1])):
        expected = {**plain, "keypoints": mirror + (1 - 2 * np.array(mirror)) * plain["keypoints"]}
        assert_same(told(model, np.flip(image, axis)), expected, atol=1e-4)


DEPTHS = {
    "compact": ["stride4_1_b", "stride8_1_b", "stride16_1_b", "refine_b"],
    "efficientnet": ["stage3_1_expand", "stage4_1_expand", "stage5_3_project", "refine_b"],
}


@pytest.mark.parametrize(("name", "level"), [(name, level) for name, levels in DEPTHS.items() for level in levels])
def test_every_depth_changes_the_points(name, level):
    """Otherwise the test above would not check that depth."""
    model = fresh_model(name)
    draw_kernels(model)
    image = pixels(SMALL[name][1])
    before = told(model, image)["keypoints"]
    norm = model.get_layer(f"{level}_norm")
    norm.beta.assign(np.linspace(-3, 3, norm.beta.shape[0]))
    assert np.abs(told(model, image)["keypoints"] - before).max() > 1e-3


def test_upsampling_keeps_positions():
    """A map of cell positions, (i + 0.5) / n, is a map of cell positions after upsampling, except at the border."""
    image = keras.Input((6, 9, 2))
    doubling = keras.Model(image, doubled(image))
    places = cell_centers(6, 9).reshape(1, 6, 9, 2)
    finer = cell_centers(12, 18).reshape(1, 12, 18, 2)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(ops.convert_to_numpy(doubling(places))[inner], finer[inner], atol=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_networks_accept_rgb_and_other_sizes(name):
    model = models.build(name, 1, (64, 96, 3), EXACT[name])
    answer = told(model, pixels((64, 96, 3)))
    assert answer["keypoints"].shape == (2, 1, 2)
    assert ((answer["keypoints"] > 0) & (answer["keypoints"] < 1)).all()
    assert answer["uncertainty"].shape == (2, 1)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (("compct", 68, (112, 112, 1)), ["compct", "compact"]),
        (("compact", 68, (112, 100, 1)), ["compact", "16", "112", "100"]),
        (("compact", 68, (112, 112, 1), {"width": 3}), ["compact", "width", "widths"]),
        (("compact", 68, (112, 112, 1), {"blocks": [1]}), ["compact", "3", "blocks"]),
        (("compact", 68, (112, 112, 1), {"widths": [8, 8, 8]}), ["compact", "4", "widths"]),
        (("compact", 68, (112, 112, 1), {"pyramid_width": 8}), ["compact", "pyramid_width"]),
        (("efficientnet", 68, (112, 100, 1)), ["efficientnet", "16", "112", "100"]),
        (("efficientnet", 68, (112, 112, 1), {"blocks": [1]}), ["efficientnet", "5", "blocks"]),
        (("efficientnet", 68, (112, 112, 1), {"width": 0.0}), ["efficientnet", "width", "0.0", "64"]),
        (("naimish", 0, (224, 224, 1)), ["naimish", "0", "(224, 224, 1)"]),
        (("naimish", 68, (32, 32, 1)), ["2x2", "3x3"]),
        (("twoconv", 68, (224, 224, 1), {"widths": [1, 2, 3]}), ["twoconv", "2", "widths"]),
        (("mobilenet", 68, (112, 112, 1)), ["mobilenet", "3", "1"]),
        (("mobilenet", 68, (24, 112, 3)), ["mobilenet", "32", "8", "24", "112"]),
    ],
)
def test_invalid_arguments_are_one_line_errors(call, parts):
    with pytest.raises(KpdetectError, match=mentions(*parts)) as caught:
        models.build(*call)
    assert "\n" not in str(caught.value)


def test_compact_upsamples_in_float32():
    """XLA has no gradient of bilinear upsampling in half precision, which mixed precision with `jit_compile` needs."""
    with policy("mixed_bfloat16"):
        model = models.build("compact", 2, (32, 32, 1))
    policies = {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.UpSampling2D)}
    assert policies == {"float32"}
