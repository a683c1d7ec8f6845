"""Caching, transforms and validation batches of a recipe."""

import dataclasses

import numpy as np
from messages import lines_with

from kpdetect.core.schema import user_schema
from kpdetect.data import Annotations, load
from kpdetect.data.augmentation import CenterCrop, Noise, RandomCrop, RandomFlip
from kpdetect.data.pipeline import FaceCache, FaceFraming, ImageFraming, Share, build_cache
from kpdetect.recipes import Augmentation
from kpdetect.recipes.own import compact_112
from kpdetect.recipes.student_projects import naimish
from kpdetect.training.feeding import framing_of, mean_target, transforms_of, validation_batches


def validated(annotations: Annotations) -> list[np.ndarray]:
    batches = [[np.asarray(part) for part in batch] for batch in validation_batches(annotations, compact_112())]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def without_sides(annotations: Annotations) -> Annotations:
    schema = user_schema([f"p{index}" for index in range(68)])
    return dataclasses.replace(annotations, schema=schema)


def test_validation_has_every_face_plain_and_mirrored() -> None:
    faces = load("synthetic:5")
    crops, relative, weights = validated(faces)
    swap = list(faces.schema.flip_permutation or ())
    assert (len(crops), len(relative), len(weights)) == (10, 10, 10)
    np.testing.assert_array_equal(crops[5:, :, ::-1], crops[:5])
    mirrored_back = relative[5:, swap] * (-1, 1) + (1, 0)
    np.testing.assert_allclose(mirrored_back, relative[:5], atol=1e-6)


def test_a_scheme_without_flips_is_validated_plain() -> None:
    assert len(validated(without_sides(load("synthetic:5")))[0]) == 5


def test_validation_batches_split_evenly_and_padding_has_zero_weight() -> None:
    faces, recipe = load("synthetic:5"), dataclasses.replace(compact_112(), batch_size=8)
    whole = [[np.asarray(part) for part in batch] for batch in validation_batches(faces, recipe)]
    shares = [validation_batches(faces, recipe, Share(number, 2), devices=4) for number in range(2)]
    for count, batches in enumerate(zip(*shares, strict=True)):
        together = [np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]) for parts in zip(*batches, strict=True)]
        assert len(together[0]) % 4 == 0
        for part, expected in zip(together, whole[count], strict=True):
            np.testing.assert_array_equal(part[: len(expected)], expected)
        assert not together[2][len(whole[count][2]) :].any()
    assert count + 1 == len(whole) == 2


def test_the_recipe_selects_what_is_cached() -> None:
    assert isinstance(framing_of(compact_112()), FaceFraming)
    assert framing_of(naimish()) == ImageFraming(250, (224, 224))


def test_transforms_of_amount_zero_are_left_out(capsys) -> None:
    schema = load("synthetic:1").schema
    plain = transforms_of(dataclasses.replace(compact_112(), augmentation=Augmentation()), schema)
    assert plain == (CenterCrop((112, 112)),)
    assert transforms_of(naimish(), schema) == (RandomCrop((224, 224)), RandomFlip())
    blind = without_sides(load("synthetic:1")).schema
    varied = dataclasses.replace(compact_112(), augmentation=Augmentation(noise=4.0, flip=True))
    some = transforms_of(varied, blind)
    assert some == (CenterCrop((112, 112)), Noise(4.0))
    assert lines_with(capsys.readouterr().err, blind.name)


def cache_of(keypoints: list[list[list[float]]], extent_hw: tuple[int, int], visible: list[list[bool]]) -> FaceCache:
    """A cache of faces of equal canvas size, without images."""
    count = len(keypoints)
    return FaceCache(
        images=np.zeros((count, *extent_hw, 1), np.uint8),
        keypoints=np.array(keypoints, np.float32),
        visible=np.array(visible),
        extents_hw=np.tile(np.float32(extent_hw), (count, 1)),
        boxes=np.zeros((count, 4), np.float32),
        rows=np.arange(count),
    )


def test_the_mean_target_of_random_crops_is_that_of_their_mean_position() -> None:
    recipe = dataclasses.replace(naimish(), augmentation=Augmentation())
    # 250 x 324: random crops of 224 begin at 0 to 26 and at 0 to 100, on average at 13 and 50.
    cache = cache_of([[[100, 60], [5, 5]], [[110, 80], [5, 5]]], (250, 324), [[True, False], [True, False]])
    points = mean_target(cache, recipe, user_schema(["nose", "unseen"]))
    np.testing.assert_allclose(points[0], [(105 - 50 + 0.5) / 224, (70 - 13 + 0.5) / 224], atol=1e-6)
    np.testing.assert_array_equal(points[1], [0.5, 0.5])


def test_mirrored_crops_are_half_of_the_mean_target() -> None:
    faces = load("synthetic:6")
    cache = build_cache(faces, framing_of(naimish()), 1)
    swap = list(faces.schema.flip_permutation or ())
    plain = mean_target(cache, dataclasses.replace(naimish(), augmentation=Augmentation()), faces.schema)
    expected = (plain + plain[swap] * (-1, 1) + (1, 0)) / 2
    np.testing.assert_allclose(mean_target(cache, naimish(), faces.schema), expected, atol=1e-5)


def test_the_mean_target_of_face_crops_is_the_mean_label_of_evaluation() -> None:
    faces = load("synthetic:6")
    recipe = dataclasses.replace(compact_112(), augmentation=Augmentation())
    crops = validation_batches(faces, recipe)
    relative = np.concatenate([np.asarray(labels) for _, labels, _ in crops])[: len(faces)]
    cache = build_cache(faces, framing_of(recipe), 1)
    np.testing.assert_allclose(mean_target(cache, recipe, faces.schema), relative.mean(axis=0), atol=1e-5)
