"""Morphed faces: keypoints are at the warped features, and pairs are fully visible faces of two subjects."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from messages import lines_with, mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, tight_box
from kpdetect.core.images import Pixels, cv2, read_image, warp_crop
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import Annotations, morphed_faces
from kpdetect.data.face_morphing import LARGEST_SIDE, MARGIN
from kpdetect.data.synthetic import annotations as drawn_faces
from kpdetect.recipes import RECIPES
from kpdetect.recipes.recipe import Augmentation
from kpdetect.training.faces import with_morphed_faces

CORNERS = KeypointSchema("corners", ("top_left", "top_right", "bottom_right", "bottom_left", "middle"))


def dots_at(points: Floats) -> Pixels:
    """Bright dots on black, one at each point."""
    y, x = np.mgrid[:200, :200]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.0**2)) for px, py in points)
    return np.repeat(np.rint(255 * np.clip(dots, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


def people_of_dots() -> Annotations:
    """Two squares with different distortions."""
    first = np.array([[60, 60], [130, 64], [134, 140], [58, 132], [96, 100]], np.float32)
    other = np.array([[70, 66], [138, 60], [126, 130], [66, 140], [106, 92]], np.float32)
    keypoints = np.stack([first, other])
    pictures = {"first": dots_at(first), "other": dots_at(other)}
    return Annotations(
        schema=CORNERS,
        name="dots",
        paths=np.array(["first", "other"]),
        keypoints=keypoints,
        visible=np.ones((2, 5), bool),
        boxes=tight_box(keypoints),
        subjects=np.array(["A", "B"]),
        read=pictures.__getitem__,
    )


def brightest_near(picture: Pixels, point: npt.NDArray[np.float32], reach: int = 9) -> npt.NDArray[np.float64]:
    """The centroid of brightness in a window around a point."""
    x, y = np.rint(point).astype(int)
    low_x, low_y = max(x - reach, 0), max(y - reach, 0)
    window = picture[low_y : y + reach + 1, low_x : x + reach + 1, 0].astype(np.float64)
    window[window < 0.3 * window.max()] = 0
    rows, columns = np.mgrid[: window.shape[0], : window.shape[1]]
    middle = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()
    return middle + np.array([low_x, low_y])


def test_keypoints_are_at_the_warped_features() -> None:
    faces = morphed_faces(people_of_dots(), 24, seed=1)
    for path, points in zip(faces.paths, faces.keypoints, strict=True):
        picture = faces.read(path)
        found = np.array([brightest_near(picture, point) for point in points])
        assert np.linalg.norm(found - points, axis=1).max() < 0.7


def test_morphing_with_the_first_face_only_keeps_its_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpdetect.data.face_morphing.SHAPE_RANGE", (0.0, 0.0))
    monkeypatch.setattr("kpdetect.data.face_morphing.FIRST_ONLY_SHARE", 1.0)
    given = people_of_dots()
    faces = morphed_faces(given, 4)
    for row in range(4):
        first = int(np.flatnonzero(given.subjects == faces.subjects[row])[0])
        side = round(MARGIN * float((given.boxes[first, 2:] - given.boxes[first, :2]).max()))
        moved = faces.keypoints[row] - given.keypoints[first]
        np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=0.3)
        cut = warp_crop(
            given.read(given.paths[first]), CropRule((side, side), MARGIN).matrix(given.boxes[first]), (side, side)
        )
        # A tenth of a pixel at the edge of a dot changes grey levels by up to 8.
        assert np.abs(faces.read(faces.paths[row]).astype(int) - cut).max() <= 8


def test_shapes_are_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    given = people_of_dots()
    ends = []
    for share in (0.0, 0.5, 1.0):
        monkeypatch.setattr("kpdetect.data.face_morphing.SHAPE_RANGE", (share, share))
        ends.append(morphed_faces(given, 1).keypoints[0])
    np.testing.assert_allclose(ends[1], (ends[0] + ends[2]) / 2, atol=1e-3)
    assert np.abs(ends[2] - ends[0]).max() > 5


def test_open_eyes_are_paired_with_open_eyes() -> None:
    names = ("left", "right", "chin", "crown", "eye_outer", "eye_lid", "eye_inner", "eye_below")
    scheme = KeypointSchema("one-eyed", names, groups={"eye": (4, 5, 6, 7)})
    chance = np.random.default_rng(0)
    middle = np.array([[40, 100], [160, 100], [100, 170], [100, 30], [60, 80], [70, 80], [80, 80], [70, 80]])
    keypoints = np.repeat(middle[None], 60, axis=0) + chance.normal(0, 1, (60, 8, 2)) * np.repeat([5, 0.3], 4)[:, None]
    shut = np.arange(60) % 2 == 0
    keypoints[:, 5, 1] -= np.where(shut, 0.5, 4)
    keypoints[:, 7, 1] += np.where(shut, 0.5, 4)
    faces = Annotations(
        schema=scheme,
        name="eyes",
        paths=np.array([f"{i}" for i in range(60)]),
        keypoints=keypoints.astype(np.float32),
        visible=np.ones((60, 8), bool),
        boxes=tight_box(keypoints),
        subjects=np.array([f"{i}" for i in range(60)]),
        read=dict.fromkeys(map(str, range(60)), dots_at(keypoints[0].astype(np.float32))).__getitem__,
    )
    eyes = morphed_faces(faces, 200).keypoints[:, 4:]
    opening = np.linalg.norm(eyes[:, 1] - eyes[:, 3], axis=1) / np.linalg.norm(eyes[:, 0] - eyes[:, 2], axis=1)
    assert not ((opening > 0.12) & (opening < 0.3)).any()
    assert 50 < (opening < 0.12).sum() < 150


def test_the_texture_of_the_second_face_is_inside_the_face_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpdetect.data.face_morphing.SHAPE_RANGE", (0.0, 0.0))
    rows, columns = np.mgrid[:200, :200] // 6 % 2 * 40 + 90
    lying, upright = (np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8) for stripes in (rows, columns))
    given = dataclasses.replace(people_of_dots(), read={"first": lying, "other": upright}.__getitem__)

    def seen(own_share: float) -> tuple[bool, npt.NDArray[np.int64]]:
        """Whether the stripes inside the face are horizontal, and the top rows of the image."""
        monkeypatch.setattr("kpdetect.data.face_morphing.FIRST_ONLY_SHARE", own_share)
        monkeypatch.setattr("kpdetect.data.face_morphing.OTHER_ONLY_SHARE", 1 - own_share)
        faces = morphed_faces(given, 1)
        picture = faces.read(faces.paths[0])[..., 0].astype(np.int64)
        x, y = np.rint(faces.keypoints[0, 4]).astype(int)
        face = picture[y - 12 : y + 12, x - 12 : x + 12]
        assert faces.subjects[0] == morphed_faces(given, 1).subjects[0]
        return bool(np.abs(np.diff(face, axis=0)).mean() > np.abs(np.diff(face, axis=1)).mean()), picture[:6]

    (own_lies, own_edge), (swapped_lies, swapped_edge) = seen(1.0), seen(0.0)
    assert own_lies != swapped_lies
    np.testing.assert_array_equal(own_edge, swapped_edge)


def test_the_seed_determines_the_faces() -> None:
    people = drawn_faces(30, size=64)
    once, again, others = (
        morphed_faces(people, 12, seed=3),
        morphed_faces(people, 12, seed=3),
        morphed_faces(people, 12, seed=4),
    )
    np.testing.assert_array_equal(once.keypoints, again.keypoints)
    assert once.paths.tolist() == again.paths.tolist()
    assert not set(once.paths) & set(others.paths)
    for path in once.paths[:4]:
        picture = once.read(path)
        np.testing.assert_array_equal(picture, again.read(path))
        assert picture.dtype == np.uint8
        assert picture.shape[0] == picture.shape[1] <= LARGEST_SIDE
    assert once.boxes.shape == (12, 4)
    np.testing.assert_allclose(once.boxes, tight_box(once.keypoints), atol=0.01)


def test_addresses_depend_on_the_labels() -> None:
    given = people_of_dots()
    moved = dataclasses.replace(given, keypoints=given.keypoints + np.float32(1))
    assert not set(morphed_faces(given, 5).paths) & set(morphed_faces(moved, 5).paths)


def test_only_faces_with_all_keypoints_visible_are_used() -> None:
    people = drawn_faces(6, size=64)
    visible = people.visible.copy()
    visible[2:, 0] = False
    faces = morphed_faces(dataclasses.replace(people, visible=visible), 10)
    assert set(faces.subjects) <= set(people.subjects[:2])
    assert faces.visible.all()


def test_faces_of_one_subject_are_an_error() -> None:
    people = drawn_faces(4, size=64)
    one = dataclasses.replace(people, subjects=np.array(["A"] * 4))
    with pytest.raises(KpdetectError, match=mentions(people.name, "1")):
        morphed_faces(one, 3)


def test_a_rare_subject_is_paired_with_a_frequent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpdetect.data.face_morphing.NUM_CANDIDATES", 3)
    people = drawn_faces(400, size=64)
    subjects = np.array(["A"] * 399 + ["B"])
    faces = morphed_faces(dataclasses.replace(people, subjects=subjects), 5)
    assert len(faces) == 5


def test_faces_that_cannot_be_morphed_are_an_error() -> None:
    people = drawn_faces(4, size=64)
    two = people.select(people.schema.point_names[:2])
    with pytest.raises(KpdetectError, match=mentions(two.name, "3", "face", "2")):
        morphed_faces(two, 3)
    with pytest.raises(KpdetectError, match=mentions(people.name, "image")):
        morphed_faces(dataclasses.replace(people, boxes_around="image"), 3)
    with pytest.raises(KpdetectError, match=mentions("1", "0")):
        morphed_faces(people, 0)


def test_an_unreadable_photograph_is_named() -> None:
    people = drawn_faces(4, size=64)
    gone = dataclasses.replace(people, paths=np.array([f"gone_{i}.jpg" for i in range(4)]), read=read_image)
    faces = morphed_faces(gone, 2)
    with pytest.raises(KpdetectError, match=r"gone_\d\.jpg"):
        faces.read(faces.paths[0])


def test_training_adds_morphed_faces(capsys: pytest.CaptureFixture[str]) -> None:
    people = drawn_faces(10, size=64)
    recipe = RECIPES["compact-112"]()
    assert with_morphed_faces(recipe, people, 0) is people
    more = dataclasses.replace(recipe, augmentation=Augmentation(morphed=1.5))
    both = with_morphed_faces(more, people, 0)
    assert len(both) == 25
    assert both.name == people.name
    assert both.paths[:10].tolist() == people.paths.tolist()
    np.testing.assert_array_equal(both.read(both.paths[0]), people.read(people.paths[0]))
    assert cv2.cvtColor(both.read(both.paths[-1]), cv2.COLOR_RGB2GRAY).std() > 5
    assert lines_with(capsys.readouterr().err, "15")
    wrong = dataclasses.replace(recipe, augmentation=Augmentation(morphed=-1))
    with pytest.raises(KpdetectError, match=mentions("augmentation.morphed", "0", "-1")):
        with_morphed_faces(wrong, people, 0)
