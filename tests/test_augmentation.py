"""Augmentation: images and keypoints are transformed together, and results depend on the seed alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from messages import mentions

from kpdetect.core import geometry
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.images import warp_crop
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema
from kpdetect.data.augmentation import (
    Batch,
    Blur,
    Brightness,
    CenterCrop,
    Color,
    Contrast,
    CropToBox,
    CutOut,
    Gamma,
    Noise,
    Normalize,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
    RandomShift,
    RandomStretch,
    Rescale,
    augment,
    integer_crop,
    spatial,
)
from kpdetect.data.augmentation.photometric import (
    add_noise,
    adjust_brightness,
    adjust_color,
    adjust_contrast,
    adjust_gamma,
    cut_out,
    gaussian_blur,
)
from kpdetect.data.augmentation.spatial import apply_matrix, draw_matrix, invert, start_frame, warp
from kpdetect.recipes.own import compact_112
from kpdetect.training.feeding import transforms_of

PAIR = user_schema(["left_eye", "right_eye", "nose"])
NOSE = KeypointSchema("nose", ("nose",), flip_permutation=(0,))
CANVAS = (90, 120)
SEED = (3, 5)
EVERYTHING = transforms_of(
    dataclasses.replace(
        compact_112(),
        crop=CropRule((64, 72), 1.35),
        augmentation=dataclasses.replace(compact_112().augmentation, stretch=0.1, saturation=0.5, tint=0.1),
    ),
    IBUG68,
)


def seed(number=0):
    return tf.constant([7, number], tf.int64)


def applied(transform, images, number=0):
    return transform.apply(images, transform.draw_parameters(len(images), seed(number)))


def blobs(points, size_hw=CANVAS, sigma=3.0):
    """(B, H, W, 1) images with one Gaussian spot each, at points (B, 2)."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    distance = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return (255 * np.exp(-distance / (2 * sigma**2)))[..., None].astype(np.float32)


def centroids(images):
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    weights = np.asarray(images)[..., 0]
    total = weights.sum(axis=(1, 2))
    return np.stack([(weights * x).sum(axis=(1, 2)), (weights * y).sum(axis=(1, 2))], axis=1) / total[:, None]


def batch_of(images, keypoints, extent_hw=None):
    count = len(images)
    extent = np.tile(np.float32(images.shape[1:3] if extent_hw is None else extent_hw), (count, 1))
    boxes = np.tile(np.float32([40, 20, 80, 70]), (count, 1))
    visible = np.ones(keypoints.shape[:2], np.float32)
    return Batch(tf.constant(images), tf.constant(keypoints, tf.float32), tf.constant(visible), extent, boxes)


def random_batch(count=6, channels=1, schema=PAIR):
    rng = np.random.default_rng(1)
    points = rng.uniform(20, 80, (count, schema.num_keypoints, 2)).astype(np.float32)
    return batch_of(rng.integers(0, 256, (count, *CANVAS, channels), dtype=np.uint8), points)


SPATIAL = [
    (CenterCrop((80, 84)),),
    (RandomCrop((70, 75)),),
    (RandomRotation(25.0),),
    (RandomScale(0.3),),
    (RandomStretch(0.3),),
    (RandomShift(0.15),),
    (RandomFlip(0.5),),
    (Rescale(130),),
    (Rescale((100, 95)),),
    (CropToBox((80, 96), 1.6, shift=0.1, scale=0.2),),
    (RandomScale(0.2), RandomRotation(20.0), RandomShift(0.1), RandomFlip(0.5), CenterCrop((84, 88))),
    (RandomFlip(0.5), Rescale(100), RandomCrop((85, 92)), RandomRotation(10.0)),
]


@pytest.mark.parametrize("transforms", SPATIAL, ids=lambda t: "+".join(type(one).__name__ for one in t))
def test_images_and_keypoints_are_transformed_together(transforms):
    points = np.random.default_rng(0).uniform((38, 28), (82, 62), (48, 2)).astype(np.float32)
    size_hw = (110, 130)
    images, moved, _ = augment(batch_of(blobs(points), points[:, None]), transforms, NOSE, size_hw, seed())
    moved = moved.numpy()[:, 0]
    inside = ((moved > 14) & (moved < np.array(size_hw[::-1]) - 15)).all(axis=1)
    assert inside.sum() > 20
    assert np.abs(centroids(images) - moved)[inside].max() < 0.1


def test_a_flip_mirrors_the_image_and_exchanges_keypoints():
    batch = random_batch()
    images, points, visible = augment(batch, (RandomFlip(1.0),), PAIR, CANVAS, seed())
    np.testing.assert_array_equal(images, batch.images.numpy()[:, :, ::-1])
    expected = batch.keypoints.numpy()[:, [1, 0, 2]] * [-1, 1] + [CANVAS[1] - 1, 0]
    np.testing.assert_allclose(points, expected, atol=1e-4)
    assert visible.shape == (6, 3)


def test_a_flip_exchanges_visibility():
    batch = random_batch()
    batch = Batch(batch.images, batch.keypoints, tf.constant([[1.0, 0.0, 1.0]] * 6), batch.extent_hw, batch.boxes)
    np.testing.assert_array_equal(augment(batch, (RandomFlip(1.0),), PAIR, CANVAS, seed())[2], [[0, 1, 1]] * 6)
    np.testing.assert_array_equal(augment(batch, (RandomFlip(0.0),), PAIR, CANVAS, seed())[2], [[1, 0, 1]] * 6)


def test_flipping_twice_is_the_identity():
    batch = random_batch(schema=IBUG68)
    images, points, _ = augment(batch, (RandomFlip(1.0), RandomFlip(1.0)), IBUG68, CANVAS, seed())
    np.testing.assert_array_equal(images, batch.images)
    np.testing.assert_allclose(points, batch.keypoints, atol=1e-4)


def test_half_of_the_images_are_flipped():
    frame = start_frame(np.tile(np.float32(CANVAS), (2000, 1)), np.zeros((2000, 4), np.float32))
    mirrored = RandomFlip(0.5).draw(frame, seed()).matrix[:, 0, 0] < 0
    assert 0.45 < np.mean(mirrored) < 0.55


def test_no_transforms_is_the_identity():
    batch = random_batch(channels=3)
    images, points, visible = augment(batch, (), PAIR, CANVAS, seed())
    np.testing.assert_array_equal(images, batch.images)
    np.testing.assert_array_equal(points, batch.keypoints)
    np.testing.assert_array_equal(visible, batch.visible)
    assert images.dtype == tf.float32


def test_inverse_after_forward_is_the_identity():
    frame = start_frame(np.tile(np.float32(CANVAS), (50, 1)), np.zeros((50, 4), np.float32))
    matrix = draw_matrix(
        (RandomScale(0.4), RandomRotation(60.0), RandomShift(0.3), RandomFlip()), frame, (64, 64), seed()
    )
    np.testing.assert_allclose(matrix @ invert(matrix), np.tile(np.eye(3), (50, 1, 1)), atol=2e-4)
    points = tf.random.stateless_uniform([50, 7, 2], SEED, 0, 100)
    np.testing.assert_allclose(apply_matrix(invert(matrix), apply_matrix(matrix, points)), points, atol=1e-3)


def test_matrices_equal_numpy():
    frame = start_frame(np.float32([CANVAS]), np.float32([[30, 20, 70, 75]]))
    turn = RandomRotation(30.0).draw(frame, seed()).matrix[0].numpy()
    angle = np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0]))
    np.testing.assert_allclose(turn, geometry.rotation(angle, (59.5, 44.5)), atol=1e-4)
    np.testing.assert_allclose(Rescale(180).draw(frame, seed()).matrix[0], geometry.scaling(2.0), atol=1e-5)
    np.testing.assert_allclose(Rescale((45, 60)).draw(frame, seed()).matrix[0], geometry.scaling(0.5), atol=1e-5)
    rule = geometry.CropRule((64, 80), 1.4)
    crop = CropToBox(rule.size_hw, rule.margin).draw(frame, seed())
    np.testing.assert_allclose(crop.matrix[0], rule.matrix([30, 20, 70, 75]), atol=1e-4)
    np.testing.assert_array_equal(crop.extent_hw, [[64, 80]])


def test_the_warp_equals_that_of_prediction():
    """Without reduction, TensorFlow's warp and OpenCV's crop differ by rounding only."""
    y, x = np.mgrid[:90, :120]
    smooth = (128 + 60 * np.sin(x / 9) + 60 * np.cos(y / 11)).astype(np.uint8)[..., None]
    matrix = geometry.CropRule((64, 72), 1.2).matrix([70, 30, 110, 70])
    by_tensorflow = warp(smooth[None], tf.constant(matrix[None], tf.float32), (64, 72))[0]
    difference = np.abs(by_tensorflow - warp_crop(smooth, matrix, (64, 72)).astype(np.float32))
    assert difference.max() < 5
    assert difference.mean() < 0.6


def test_random_crops_shift_by_whole_pixels_inside_the_image():
    extent = np.tile(np.float32([60, 100]), (400, 1))
    crop = RandomCrop((50, 70)).draw(start_frame(extent, np.zeros((400, 4), np.float32)), seed())
    shift = -crop.matrix.numpy()[:, :2, 2]
    np.testing.assert_array_equal(shift, np.round(shift))
    np.testing.assert_array_equal(shift.min(axis=0), [0, 0])
    np.testing.assert_array_equal(shift.max(axis=0), [30, 10])
    small = RandomCrop((80, 90)).draw(start_frame(extent, np.zeros((400, 4), np.float32)), seed())
    np.testing.assert_array_equal(-small.matrix.numpy()[:, 1, 2], np.full(400, -10.0))


def test_parameters_are_within_their_amounts():
    frame = start_frame(np.tile(np.float32([100, 200]), (2000, 1)), np.zeros((2000, 4), np.float32))
    scale = RandomScale(0.2).draw(frame, seed()).matrix[:, 0, 0].numpy()
    assert (0.8 <= scale.min() < 0.81) & (1.19 < scale.max() <= 1.2)
    shift = RandomShift(0.1).draw(frame, seed()).matrix[:, :2, 2].numpy()
    np.testing.assert_allclose(np.abs(shift).max(axis=0), [20, 10], rtol=0.01)
    stretch = np.linalg.svd(RandomStretch(0.2).draw(frame, seed()).matrix[:, :2, :2], compute_uv=False)
    assert (1 <= stretch[:, 0].min() < 1.01) & (1.19 < stretch[:, 0].max() < 1.2001)
    np.testing.assert_allclose(stretch.prod(axis=1), 1, rtol=1e-5)
    turn = RandomRotation(10.0).draw(frame, seed()).matrix.numpy()
    assert abs(np.rad2deg(np.arctan2(turn[:, 1, 0], turn[:, 0, 0])).std() - 10) < 0.5


def test_eager_equals_inside_tf_data():
    batch = random_batch(schema=IBUG68)
    transforms = EVERYTHING
    eager = augment(batch, transforms, IBUG68, (64, 72), seed(4))
    mapped = tf.data.Dataset.range(4, 5).map(
        lambda step: augment(batch, transforms, IBUG68, (64, 72), tf.stack([tf.constant(7, tf.int64), step]))
    )
    for here, there in zip(eager, next(iter(mapped)), strict=True):
        np.testing.assert_allclose(here, there, atol=0.02)


def test_the_seed_determines_the_result():
    batch = random_batch(schema=IBUG68)
    first, again, other = (augment(batch, EVERYTHING, IBUG68, (64, 72), seed(number)) for number in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.abs(first[1] - other[1]).max() > 1
    assert 0 <= np.min(first[0]) <= np.max(first[0]) <= 255


def singles(function, images, *parameters):
    parts = [function(images[i : i + 1], *(p[i : i + 1] for p in parameters)) for i in range(len(images))]
    return np.concatenate(parts)


PICTURES = np.random.default_rng(2).uniform(0, 255, (5, 20, 24, 3)).astype(np.float32)
NUMBERS = np.linspace(0.3, 1.8, 5, dtype=np.float32)
PURE = [
    (adjust_brightness, NUMBERS * 30),
    (adjust_contrast, NUMBERS),
    (adjust_gamma, NUMBERS),
    (adjust_color, NUMBERS, np.tile(NUMBERS[:, None], (1, 3)) * np.float32([0.5, 1, 0.8])),
    (gaussian_blur, NUMBERS),
    (add_noise, NUMBERS * 10, np.array([[1, 1], [7, 5], [4000, 4092], [9, 9], [30, 2]], np.int32)),
    (cut_out, np.tile(np.float32([0.1, 0.2, 0.5, 0.7]), (5, 1)) * NUMBERS[:, None], NUMBERS * 100),
]


@pytest.mark.parametrize("case", PURE, ids=lambda case: case[0].__name__)
def test_a_batch_equals_its_singles(case):
    function, *parameters = case
    np.testing.assert_allclose(function(PICTURES, *parameters), singles(function, PICTURES, *parameters), atol=2e-3)


def test_a_warped_batch_equals_its_singles():
    matrix = draw_matrix(
        (RandomScale(0.3), RandomRotation(30.0)), start_frame(np.full((5, 2), 20.0), np.zeros((5, 4))), (16, 18), seed()
    )
    warped = [warp(PICTURES[i : i + 1], matrix[i : i + 1], (16, 18)) for i in range(5)]
    np.testing.assert_allclose(warp(PICTURES, matrix, (16, 18)), np.concatenate(warped), atol=1e-3)


def test_light_transforms_equal_values_by_hand():
    grey = np.float32([0, 51, 204, 255]).reshape(1, 2, 2, 1)
    one = np.ones(1, np.float32)
    np.testing.assert_allclose(np.ravel(adjust_brightness(grey, 60 * one)), [60, 111, 255, 255])
    np.testing.assert_allclose(np.ravel(adjust_contrast(grey, 0.5 * one)), [63.75, 89.25, 165.75, 191.25])
    np.testing.assert_allclose(np.ravel(adjust_gamma(grey, 2 * one)), [0, 10.2, 163.2, 255], atol=1e-2)
    np.testing.assert_allclose(adjust_gamma(grey, one), grey, atol=1e-3)
    normal = Normalize(127.5, 127.5).apply(grey, ())
    np.testing.assert_allclose(np.ravel(normal), [-1, -0.6, 0.6, 1], atol=1e-6)


def test_color_equals_values_by_hand():
    orange = np.float32([200, 100, 0]).reshape(1, 1, 1, 3)
    one, grey = np.ones(1, np.float32), 0.299 * 200 + 0.587 * 100
    for saturation, gains, expected in (
        (1, [1, 1, 1], [200, 100, 0]),
        (0, [1, 1, 1], [grey] * 3),
        (0.5, [1, 1, 1], [(200 + grey) / 2, (100 + grey) / 2, grey / 2]),
        (1, [0.5, 1.1, 3], [100, 110, 0]),
        (0, [0.5, 1, 3], [grey / 2, grey, 255]),
    ):
        np.testing.assert_allclose(
            np.ravel(adjust_color(orange, saturation * one, np.float32([gains]))), expected, rtol=1e-5
        )
    saturation, gains = (numbers.numpy() for numbers in Color(0.4, 0.1).draw_parameters(2000, seed()))
    assert (0.6 <= saturation.min() < 0.61) & (1.39 < saturation.max() <= 1.4)
    np.testing.assert_allclose([gains.min(axis=0), gains.max(axis=0)], [[0.9] * 3, [1.1] * 3], atol=1e-3)
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.1


def test_color_leaves_grey_images_unchanged():
    np.testing.assert_array_equal(applied(Color(1.0, 0.5), PICTURES[..., :1]), PICTURES[..., :1])


def test_blur_has_the_given_sigma_and_keeps_borders():
    spot = np.zeros((2, 41, 41, 2), np.float32)
    spot[:, 20, 20] = 255
    sigma = np.float32([0.8, 2.0])
    blurred = gaussian_blur(spot, sigma).numpy()
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), 255, rtol=1e-4)
    spread = ((np.arange(41) - 20) ** 2 * blurred[..., 0].sum(axis=1) / 255).sum(axis=1)
    np.testing.assert_allclose(np.sqrt(spread), sigma, rtol=0.02)
    flat = np.full((2, 9, 11, 1), 200, np.float32)
    np.testing.assert_allclose(gaussian_blur(flat, sigma), flat, rtol=1e-5)


def test_blur_changes_the_given_share():
    pictures = np.tile(PICTURES, (8, 1, 1, 1))
    changed = [
        np.any(np.abs(applied(Blur(0.3, 2.0), pictures, n) - pictures) > 1e-3, axis=(1, 2, 3)).mean() for n in range(20)
    ]
    assert abs(np.mean(changed) - 0.3) < 0.02
    np.testing.assert_array_equal(applied(Blur(0.0), pictures), pictures)


def test_noise_is_normal_and_differs_between_images():
    grey = np.full((64, 40, 48, 1), 128, np.float32)
    noise = applied(Noise(20.0), grey).numpy() - 128
    std = noise.std(axis=(1, 2, 3))
    assert (std.max() < 21) & (std.min() < 3) & (abs(std.mean() - 10) < 2)
    assert abs(noise.mean()) < 0.2
    unit = (noise / std[:, None, None, None]).reshape(64, -1)
    correlation = unit @ unit.T / unit.shape[1] - np.eye(64)
    assert np.abs(correlation).max() < 0.15


def test_cutout_fills_rectangles():
    white = np.full((600, 30, 40, 1), 255, np.float32)
    cut = np.asarray(applied(CutOut(0.4, 0.5), white))[..., 0] < 254.5
    assert 0.33 < cut.any(axis=(1, 2)).mean() < 0.45
    assert cut.any(axis=2).sum(axis=1).max() <= 16
    painted = cut_out(white[:1], np.float32([[0.1, 0.5, 0.4, 0.6]]), np.float32([7]))[0, ..., 0].numpy()
    assert (painted[3:12, 20:24] == 7).all()
    assert (painted == 7).sum() == 9 * 4


@pytest.mark.parametrize(
    "transform",
    [Brightness(500.0), Contrast(3.0), Gamma(2.0), Noise(200.0), Blur(1.0, 3.0), CutOut(1.0), Color(1.0, 0.5)],
)
def test_pixels_stay_in_range(transform):
    extremes = np.where(PICTURES > 128, 255, 0).astype(np.float32)
    changed = applied(transform, extremes)
    assert changed.shape == PICTURES.shape
    assert np.isfinite(changed).all()
    assert -1e-3 <= np.min(changed) <= np.max(changed) <= 255.001


def test_invalid_transforms_are_errors():
    nameless = user_schema(["p0", "p1"])
    batch = random_batch(schema=nameless)
    with pytest.raises(KpdetectError, match=mentions("RandomFlip", "user")):
        augment(batch, (RandomFlip(),), nameless, CANVAS, seed())
    with pytest.raises(KpdetectError, match=mentions("draw", "draw_parameters", "apply", "flip")):
        augment(batch, ("flip",), nameless, CANVAS, seed())
    for make in (RandomFlip, Blur, CutOut, RandomScale, RandomStretch, Color):
        with pytest.raises(KpdetectError, match=mentions(make.__name__, "[0, 1]", "1.5")):
            make(1.5)


@pytest.mark.parametrize("canvas", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_integer_crops_equal_the_bilinear_warp(canvas: type, channels: int) -> None:
    """Crops and mirrored crops by whole pixels are bit-identical to the warp; other matrices are not accepted."""
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 20, 24, channels)).astype(canvas))
    extent = tf.constant([[20.0, 24.0], [16.0, 24.0], [20.0, 13.0], [12.0, 11.0], [20.0, 24.0], [15.0, 20.0]])
    frame = spatial.start_frame(extent, tf.zeros((6, 4)))
    for seed in range(4):
        moves = [RandomCrop((12, 11)), RandomFlip()]
        matrix = spatial.draw_matrix(moves, frame, (12, 11), tf.constant([seed, 1]))
        to_source = spatial.invert(matrix)
        assert integer_crop.is_integer_crop(to_source, tf.constant([20, 24]), (12, 11))
        slow = spatial.warp_bilinear(images, to_source, (12, 11))
        np.testing.assert_array_equal(spatial.warp(images, matrix, (12, 11)), slow)
    for more in (spatial.translation(tf.fill([6, 2], 0.5)), spatial.translation(tf.fill([6, 2], 30.0))):
        assert not integer_crop.is_integer_crop(spatial.invert(more @ matrix), tf.constant([20, 24]), (12, 11))
