import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from messages import mentions
from small_models import SQUARE

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, tight_box
from kpdetect.core.schema import user_schema
from kpdetect.data import Annotations, split_by_rule
from kpdetect.evaluation.evaluator import box_jitter_curve, check_scheme, evaluate
from kpdetect.evaluation.reporting import result_row
from kpdetect.evaluation.splits import choose_split
from kpdetect.modelfile.spec import Spec

SPEC = Spec(SQUARE, "compact", {}, CropRule((160, 160), 2.0), channels=1, recipe="compact")


def squares(count: int, label_shift: float = 0.0, spread: float = 5.0) -> Annotations:
    """White squares on black; the labels are their corners (between pixels), moved right by a share of the side."""
    random = np.random.default_rng(7)
    low = np.round(30 + spread * random.normal(size=(count, 2)))
    side = np.round(random.uniform(16, 24, (count, 1)))
    corner = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], np.float32)
    true = (low[:, None] - 0.5 + corner * side[:, None]).astype(np.float32)
    labels = true + np.float32(label_shift) * side[:, None].astype(np.float32) * np.array([1, 0], np.float32)

    def read(path: str) -> npt.NDArray[np.uint8]:
        image = np.zeros((100, 100, 3), np.uint8)
        (x0, y0), (x1, y1) = (
            (true[int(path)].min(axis=0) + 0.5).astype(int),
            (true[int(path)].max(axis=0) + 0.5).astype(int),
        )
        image[y0:y1, x0:x1] = 255
        return image

    names = np.array([str(i) for i in range(count)])
    visible = np.ones((count, 4), bool)
    return Annotations(SQUARE, "squares", names, labels, visible, tight_box(true), names, read=read)


def corners(crops: npt.NDArray[np.uint8]) -> Floats:
    """A model that predicts the corners of the bright region, relative to the crop."""
    found = []
    for crop in crops[..., 0]:
        y, x = np.nonzero(crop > 127)
        x0, x1, y0, y1 = x.min() - 0.5, x.max() + 0.5, y.min() - 0.5, y.max() + 0.5
        found.append([[x1, y0], [x0, y0], [x1, y1], [x0, y1]])
    return ((np.array(found) + 0.5) / crops.shape[1]).astype(np.float32)


def test_a_correct_model_has_no_error_plain_and_mirrored() -> None:
    measured = evaluate(corners, squares(9), SPEC)
    assert measured.plain.n == 9
    assert measured.plain.mean < 0.02
    assert measured.mirrored is not None
    assert measured.mirrored < 0.02
    assert set(measured.regions) == {"top", "bottom"}


def test_the_label_shift_is_reported_and_centring_removes_it() -> None:
    measured = evaluate(corners, squares(10, label_shift=0.1), SPEC)
    assert measured.plain.mean == pytest.approx(0.1, abs=0.02)
    assert measured.label_shift is not None
    assert measured.label_shift[0] == pytest.approx(0.1, abs=0.02)
    assert measured.centred < 0.02
    assert measured.point_centred < 0.03


def test_a_missed_face_is_a_failure_and_not_in_the_mean() -> None:
    annotations = squares(6)
    measured = evaluate(corners, annotations, SPEC, missed=2)
    row = result_row(SPEC, "model.tflite", annotations, measured, "all", "haar", 1)
    assert (row.n, row.missed) == (8, 2)
    assert row.fr8 == pytest.approx(100 * 2 / 8)
    assert row.nme < 2
    assert "inter" not in row.normaliser


def test_invisible_points_have_zero_weight() -> None:
    annotations = squares(5)
    keypoints, visible = annotations.keypoints.copy(), annotations.visible.copy()
    keypoints[:, 2], visible[:, 2] = 1000.0, False
    hidden = dataclasses.replace(annotations, keypoints=keypoints, visible=visible)
    assert evaluate(corners, hidden, SPEC).plain.mean < 0.02


def test_box_jitter_within_the_crop_changes_the_error_little() -> None:
    annotations = squares(5)
    curve = box_jitter_curve(corners, annotations, SPEC)
    assert [level for level, _ in curve["shift"]] == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert [level for level, _ in curve["scale"]] == [-0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2]
    assert all(error < 0.03 for _, error in (*curve["shift"], *curve["scale"]))


def test_the_constant_prediction_is_the_mean_training_target_of_the_spec() -> None:
    square = np.array([[0.75, 0.25], [0.25, 0.25], [0.75, 0.75], [0.25, 0.75]])  # margin 2: half of the crop
    exact = dataclasses.replace(SPEC, extra={"mean_target": square.tolist()})
    aside = dataclasses.replace(SPEC, extra={"mean_target": (square + np.array([0.05, 0])).tolist()})
    assert evaluate(corners, squares(4), SPEC).constant is None
    assert evaluate(corners, squares(4), exact).constant == pytest.approx(0, abs=1e-5)
    moved = evaluate(corners, squares(4), aside)
    assert moved.constant == pytest.approx(0.1, abs=1e-5)  # a tenth of the side, which normalises
    row = result_row(aside, "model.tflite", squares(4), moved, "all", "truth", 1)
    assert row.nme_constant == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize("target", [[[0.5, 0.5]], [[0.5, 0.5]] * 3 + [[0.5]], "middle", [["a", "b"]] * 4])
def test_a_mean_target_of_another_shape_is_an_error_that_names_it(target: object) -> None:
    with pytest.raises(KpdetectError, match=mentions("extra.mean_target", "4")):
        dataclasses.replace(SPEC, extra={"mean_target": target})


def test_a_model_with_other_points_is_an_error_that_names_them() -> None:
    other = dataclasses.replace(SPEC, schema=user_schema(["nose"]))
    with pytest.raises(KpdetectError, match=mentions("1", "user", "squares", "4")):
        check_scheme(other, squares(2))


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(KpdetectError, match=mentions("squares")):
        evaluate(corners, squares(3).take([]), SPEC)


def test_the_split_is_that_of_the_training_and_has_a_name() -> None:
    annotations = squares(40)
    trained = dataclasses.replace(SPEC, data=("squares",), extra={"split": {"val_fraction": 0.25, "seed": 3}})
    val, words = choose_split(annotations, trained, "val")
    assert 0 < len(val) < 20
    assert words.split()[0] == "val"
    assert choose_split(annotations, trained, "all")[1].split()[0] == "all"
    assert choose_split(annotations, SPEC, "all")[1] == "all"


def test_the_test_part_has_no_training_subjects() -> None:
    annotations = squares(60)
    rule = {"val_fraction": 0.2, "seed": 3, "test_fraction": 0.3}
    trained = dataclasses.replace(SPEC, data=("squares",), extra={"split": rule})
    test, words = choose_split(annotations, trained, "test")
    assert words.split()[0] == "test"
    train, val, expected = split_by_rule(annotations, rule)
    assert test.subjects.tolist() == expected.subjects.tolist()
    assert 0 < len(test) < 30
    assert not set(test.subjects.tolist()) & {*train.subjects.tolist(), *val.subjects.tolist()}
    assert choose_split(annotations, trained, "val")[0].subjects.tolist() == val.subjects.tolist()


@pytest.mark.parametrize("extra", [{}, {"split": {}}, {"split": {"val_fraction": 0.25, "seed": 3}}])
def test_a_model_without_a_test_part_is_an_error_with_a_remedy(extra) -> None:
    with pytest.raises(KpdetectError, match=mentions("--split", "test", "--test-fraction", "val")):
        choose_split(squares(40), dataclasses.replace(SPEC, extra=extra), "test")
