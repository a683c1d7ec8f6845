"""Label changes before training: alignment and distillation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.schema import IBUG68, KeypointSchema
from kpdetect.data import Annotations, align, synthetic
from kpdetect.modelfile import runtime
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec
from kpdetect.recipes import RECIPES, Distillation, Recipe, TrainOptions, choose_recipe
from kpdetect.training import distillation
from kpdetect.training.distillation import distill_labels, relabelling

SWAP = np.array(IBUG68.flip_permutation)
# Points of a face that is its own mirror image, relative to the crop.
SHAPE = np.random.default_rng(0).uniform(0.2, 0.8, (68, 2))
SYMMETRIC = ((SHAPE + [1, 0] + SHAPE[SWAP] * [-1, 1]) / 2).astype(np.float32)


class Teacher:
    """Predicts the same points in every crop."""

    path = Path("teacher")

    def __init__(self, relative: np.ndarray = SYMMETRIC, schema: KeypointSchema = IBUG68):
        self.spec = Spec(schema, "none", {}, CropRule((48, 48), 1.5), 3)
        self.relative = relative.astype(np.float32)
        self.crops = 0

    def predict(self, crops: np.ndarray) -> Prediction:
        self.crops += len(crops)
        return Prediction(np.repeat(self.relative[None], len(crops), axis=0), None)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        return self.predict(crops).keypoints


def faces(count: int = 5) -> Annotations:
    return dataclasses.replace(synthetic.annotations(count, seed=2), name="drawn")


def in_the_photograph(relative: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """By hand: the crop is 1.5 times the longer side of the box about its middle."""
    sides = 1.5 * (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return middles[:, None] + (relative - 0.5) * sides[:, None, None]


class TestDistillLabels:
    @pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
    def test_labels_are_between_the_original_and_those_of_the_teachers(self, share):
        own = faces()
        given = distill_labels(own, [Teacher()], Distillation(("teacher",), share))
        marks = in_the_photograph(SYMMETRIC, own.boxes)
        np.testing.assert_allclose(given.keypoints, own.keypoints + share * (marks - own.keypoints), atol=1e-3)
        assert given.keypoints.dtype == np.float32
        np.testing.assert_array_equal(given.boxes, own.boxes)
        assert dataclasses.replace(given, keypoints=own.keypoints) == own

    def test_a_share_of_zero_keeps_labels_exactly(self):
        np.testing.assert_array_equal(
            distill_labels(faces(), [Teacher()], Distillation(("t",), 0.0)).keypoints, faces().keypoints
        )

    def test_teachers_predict_each_face_plain_and_mirrored(self):
        """A constant horizontal error of the teacher cancels."""
        teacher = Teacher(SYMMETRIC + np.float32([0.03, 0.02]))
        given = distill_labels(faces(), [teacher], Distillation(("teacher",), 1.0))
        expected = in_the_photograph(SYMMETRIC + np.float32([0, 0.02]), faces().boxes)
        np.testing.assert_allclose(given.keypoints, expected, atol=1e-3)
        assert teacher.crops == 2 * len(faces())

    def test_without_a_flip_permutation_they_predict_plain(self):
        one_eyed = dataclasses.replace(IBUG68, flip_permutation=None)
        teacher = Teacher(SHAPE, one_eyed)
        given = distill_labels(faces(), [teacher], Distillation(("teacher",), 1.0))
        np.testing.assert_allclose(given.keypoints, in_the_photograph(SHAPE, faces().boxes), atol=1e-3)
        assert teacher.crops == len(faces())

    def test_hidden_points_keep_their_labels(self):
        own = faces()
        own.visible[:, 7] = False
        own.visible[2] = False
        given = distill_labels(own, [Teacher()], Distillation(("teacher",), 1.0))
        moved = (given.keypoints != own.keypoints).any(axis=-1)
        np.testing.assert_array_equal(moved, own.visible)

    def test_a_data_set_that_is_not_named_is_unchanged_and_not_predicted(self):
        own, teacher = faces(), Teacher()
        assert distill_labels(own, [teacher], Distillation(("teacher",), 1.0, ("others", "drawn2"))) is own
        assert teacher.crops == 0
        assert distill_labels(own, [teacher], Distillation(("teacher",), 1.0, ("others", "drawn"))) is not own
        part = dataclasses.replace(own, name="drawn:folder")
        assert distill_labels(part, [teacher], Distillation(("teacher",), 1.0, ("drawn",))) is not part

    def test_many_faces_are_predicted_in_parts(self, monkeypatch):
        whole = distill_labels(faces(7), [Teacher()], Distillation(("teacher",), 0.5))
        monkeypatch.setattr(distillation, "CROPS_AT_ONCE", 3)
        np.testing.assert_array_equal(
            distill_labels(faces(7), [Teacher()], Distillation(("teacher",), 0.5)).keypoints, whole.keypoints
        )

    @pytest.mark.parametrize("before", [0, 1])
    def test_a_teacher_of_other_points_is_refused(self, before):
        nose = Teacher(SYMMETRIC[30:31], IBUG68.subset(["nose_tip"]))
        with pytest.raises(KpdetectError, match=mentions("1", nose.spec.schema.name)):
            distill_labels(faces(), [Teacher()] * before + [nose], Distillation(("teacher",)))

    def test_several_teachers_are_averaged(self, capsys):
        """Each teacher has its own crop rule."""
        near, far = Teacher(), Teacher(SYMMETRIC + np.float32([0, 0.04]))
        far.spec = dataclasses.replace(far.spec, crop=CropRule((32, 32), 1.5))
        given = distill_labels(faces(), [near, far], Distillation(("teacher", "teacher"), 1.0))
        expected = in_the_photograph(SYMMETRIC + np.float32([0, 0.02]), faces().boxes)
        np.testing.assert_allclose(given.keypoints, expected, atol=1e-3)
        assert lines_with(capsys.readouterr().err, "teacher, teacher", "5", "drawn")

    def test_a_message_states_the_share(self, capsys):
        distill_labels(faces(), [Teacher()], Distillation(("teacher",)))
        assert lines_with(capsys.readouterr().err, "teacher", "5", "drawn")


class TestRelabelling:
    @pytest.fixture
    def loaded(self, monkeypatch) -> list[str]:
        """Paths of the loaded teachers."""
        paths: list[str] = []

        def load(path: str, threads: int) -> Teacher:
            paths.append(path)
            return Teacher()

        monkeypatch.setattr(runtime, "load", load)
        return paths

    def recipe(self, **options: object) -> Recipe:
        return dataclasses.replace(RECIPES["compact"](), **options)

    def test_recipes_do_not_change_labels_by_default(self, loaded):
        for recipe in RECIPES.values():
            assert relabelling(recipe()) is None
        assert loaded == []

    @pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
    @pytest.mark.parametrize("models", [(), ("teacher",)])
    def test_a_share_outside_0_to_1_is_an_error(self, loaded, share, models):
        with pytest.raises(KpdetectError, match=mentions("distillation.share", "0", "1", str(share))):
            relabelling(self.recipe(distillation=Distillation(models, share)))
        assert loaded == []

    def test_labels_are_aligned_before_distillation(self, loaded):
        own = dataclasses.replace(faces(), name="youtube-faces")
        aligned = align(own)
        assert not np.array_equal(aligned.keypoints, own.keypoints)
        relabel = relabelling(self.recipe(align_labels=True))
        np.testing.assert_array_equal(relabel(own).keypoints, aligned.keypoints)
        relabel = relabelling(self.recipe(align_labels=True, distillation=Distillation(("teacher",), 0.5)))
        expected = distill_labels(aligned, [Teacher()], Distillation(("teacher",), 0.5))
        np.testing.assert_array_equal(relabel(own).keypoints, expected.keypoints)
        assert loaded == ["teacher"]

    def test_a_missing_teacher_is_an_error(self, tmp_path):
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "gone"))):
            relabelling(self.recipe(distillation=Distillation((str(tmp_path / "gone"),))))

    def test_options_set_teachers_and_alignment(self):
        assert choose_recipe(TrainOptions(teacher="runs/a, b,")).distillation.models == ("runs/a", "b")
        options = TrainOptions(
            teacher="runs/a", align_labels=True, set=("distillation.data=drawn", "distillation.share=0.25")
        )
        recipe = choose_recipe(options)
        assert recipe.align_labels
        assert recipe.distillation == Distillation(("runs/a",), 0.25, ("drawn",))
        assert recipe.to_dict()["distillation"] == {"models": ("a",), "share": 0.25, "data": ("drawn",)}
        assert choose_recipe(TrainOptions()).distillation == Distillation()
