"""What a recipe means for the pipeline."""

import dataclasses

import numpy as np

from kpdetect.core.schema import user_schema
from kpdetect.data import Annotations, load
from kpdetect.data.augmentation import CenterCrop, Noise, RandomCrop, RandomFlip
from kpdetect.data.pipeline import FaceFraming, ImageFraming, Share
from kpdetect.recipes import Augmentation
from kpdetect.recipes.own import compact
from kpdetect.recipes.student_projects import naimish
from kpdetect.training.feeding import framing_of, transforms_of, validation_batches


def validated(annotations: Annotations) -> list[np.ndarray]:
    batches = [[np.asarray(part) for part in batch] for batch in validation_batches(annotations, compact())]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def without_sides(annotations: Annotations) -> Annotations:
    schema = user_schema([f"p{index}" for index in range(68)])
    return dataclasses.replace(annotations, schema=schema)


def test_validation_holds_every_face_plain_and_mirrored() -> None:
    faces = load("synthetic:5")
    crops, relative, weights = validated(faces)
    swap = list(faces.schema.flip_permutation or ())
    assert (len(crops), len(relative), len(weights)) == (10, 10, 10)
    np.testing.assert_array_equal(crops[5:, :, ::-1], crops[:5])
    mirrored_back = relative[5:, swap] * (-1, 1) + (1, 0)
    np.testing.assert_allclose(mirrored_back, relative[:5], atol=1e-6)


def test_a_scheme_without_a_mirror_image_is_validated_plain() -> None:
    assert len(validated(without_sides(load("synthetic:5")))[0]) == 5


def test_validation_is_shared_evenly_and_what_fills_it_up_weighs_nothing() -> None:
    faces, recipe = load("synthetic:5"), dataclasses.replace(compact(), batch_size=8)
    whole = [[np.asarray(part) for part in batch] for batch in validation_batches(faces, recipe)]
    shares = [validation_batches(faces, recipe, Share(number, 2), devices=4) for number in range(2)]
    for count, batches in enumerate(zip(*shares, strict=True)):
        together = [np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]) for parts in zip(*batches, strict=True)]
        assert len(together[0]) % 4 == 0
        for part, expected in zip(together, whole[count], strict=True):
            np.testing.assert_array_equal(part[: len(expected)], expected)
        assert not together[2][len(whole[count][2]) :].any()
    assert count + 1 == len(whole) == 2


def test_what_is_cached_follows_from_the_recipe() -> None:
    assert isinstance(framing_of(compact()), FaceFraming)
    assert framing_of(naimish()) == ImageFraming(250, (224, 224))


def test_augmentation_of_no_amount_is_left_out(capsys) -> None:
    schema = load("synthetic:1").schema
    plain = transforms_of(dataclasses.replace(compact(), augmentation=Augmentation()), schema)
    assert plain == (CenterCrop((112, 112)),)
    assert transforms_of(naimish(), schema) == (RandomCrop((224, 224)), RandomFlip())
    blind = without_sides(load("synthetic:1")).schema
    varied = dataclasses.replace(compact(), augmentation=Augmentation(noise=4.0, flip=True))
    some = transforms_of(varied, blind)
    assert some == (CenterCrop((112, 112)), Noise(4.0))
    assert "no left and right" in capsys.readouterr().err
