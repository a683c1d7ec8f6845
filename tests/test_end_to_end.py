"""End-to-end evaluation on photographs of bright squares: errors, missed faces and matching."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from messages import mentions
from small_models import SQUARE

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, tight_box
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import Annotations
from kpdetect.detection import Face
from kpdetect.evaluation.end_to_end import FindFaces, evaluate_end_to_end
from kpdetect.modelfile.spec import Spec

SPEC = Spec(SQUARE, "compact", {}, CropRule((160, 160), 2.0), channels=1, recipe="compact")
SIDE = 20
PLACES = {"two": [(10, 30), (60, 35)], "one": [(40, 8)]}  # upper left pixels of the squares of each photograph


def points_of(x: float, y: float) -> Floats:
    """The corners of a square, between pixels; the subject's left is on the right."""
    return np.float32([[x + SIDE, y], [x, y], [x + SIDE, y + SIDE], [x, y + SIDE]]) - np.float32(0.5)


def read(path: str) -> npt.NDArray[np.uint8]:
    image = np.zeros((70, 100, 3), np.uint8)
    for x, y in PLACES[path]:
        image[y : y + SIDE, x : x + SIDE] = 255
    return image


def squares() -> Annotations:
    paths = np.array(["two", "one", "two"])
    points = np.stack([points_of(*place) for place in (PLACES["two"][0], PLACES["one"][0], PLACES["two"][1])])
    return Annotations(SQUARE, "squares", paths, points, np.ones((3, 4), bool), tight_box(points), paths, read=read)


def finder(shift_x: float = 0.0, only_columns: range = range(100), box_shift: float = 0.0) -> FindFaces:
    """A fake predictor of squares in some columns, with optional shifts of points and boxes."""

    def find(image: npt.NDArray[np.uint8]) -> Sequence[Face]:
        bright = image[..., 0] > 127
        corner = bright & ~np.roll(bright, 1, 0) & ~np.roll(bright, 1, 1)
        found = [points_of(x, y) for y, x in zip(*np.nonzero(corner), strict=True) if x in only_columns]
        return [
            Face(points + np.float32([shift_x, 0]), SQUARE, detection_box=tight_box(points) + np.float32(box_shift))
            for points in found
        ]

    return find


def test_exact_predictions_have_no_error() -> None:
    measured, faces = evaluate_end_to_end(finder(), squares(), SPEC)
    assert (measured.missed, len(faces), measured.plain.n) == (0, 3, 3)
    assert measured.plain.mean == pytest.approx(0, abs=1e-5)
    assert measured.mirrored == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(measured.predicted_px, measured.true_px, atol=1e-3)


def test_errors_are_measured_in_the_photograph_independent_of_the_boxes() -> None:
    for box_shift in (0.0, 4.0):
        measured, _ = evaluate_end_to_end(finder(shift_x=2.0, box_shift=box_shift), squares(), SPEC)
        assert measured.plain.mean == pytest.approx(0.1, abs=1e-4)  # 2 of 20 pixels
        assert measured.mirrored == pytest.approx(0.1, abs=1e-4)
        assert measured.centred == pytest.approx(0, abs=1e-4)
        assert measured.label_shift is not None
        assert measured.label_shift[0] == pytest.approx(0, abs=1e-4)  # the mirror flips its sign


def test_a_missed_face_is_a_failure_and_not_in_the_mean() -> None:
    measured, faces = evaluate_end_to_end(finder(only_columns=range(0, 50)), squares(), SPEC)
    assert (measured.missed, len(faces), len(measured.errors)) == (1, 2, 2)
    assert measured.plain.fr8 == pytest.approx(1 / 3)
    assert sorted(faces.paths.tolist()) == ["one", "two"]


def test_points_beside_a_face_are_no_match() -> None:
    with pytest.raises(KpdetectError, match=mentions("squares", "3")):
        evaluate_end_to_end(finder(shift_x=15.0), squares(), SPEC)
    measured, _ = evaluate_end_to_end(finder(box_shift=15.0), squares(), SPEC)  # a box of the detector beside it is
    assert measured.missed == 0


def test_faces_found_only_without_the_mirror_have_no_mirrored_error() -> None:
    left = squares().take([0])
    measured, _ = evaluate_end_to_end(finder(only_columns=range(0, 30)), left, SPEC)
    assert measured.mirrored is None


def test_the_nearest_of_several_boxes_is_matched() -> None:
    def twice(image: npt.NDArray[np.uint8]) -> list[Face]:
        return [*finder(shift_x=9.0, box_shift=3.0)(image), *finder()(image)]

    measured, _ = evaluate_end_to_end(twice, squares(), SPEC)
    assert measured.plain.mean == pytest.approx(0, abs=1e-5)


def test_another_scheme_is_an_error() -> None:
    other = Spec(KeypointSchema("pair", ("a", "b")), "compact", {}, CropRule((160, 160), 2.0), channels=1)
    with pytest.raises(KpdetectError, match=mentions("2", "pair")):
        evaluate_end_to_end(finder(), squares(), other)
