"""`Predictor` and the command ``predict``, with models and detectors of known outputs."""

import copy
import dataclasses
import inspect
import io
import json
import pickle
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions

from kpdetect import predict
from kpdetect.core.assets import PACKAGE
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, apply_matrix, horizontal_flip
from kpdetect.core.images import read_image, write_image
from kpdetect.core.options import run_command
from kpdetect.core.schema import user_schema
from kpdetect.data import load, synthetic
from kpdetect.inference import inputs
from kpdetect.inference import predictor as predictor_module
from kpdetect.inference.inputs import chip_targets, drawing_targets, list_images
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.runtime import load as load_model
from kpdetect.modelfile.spec import Spec
from kpdetect.predict import Predictor

SCHEMA = user_schema(["left", "right", "middle"])
RELATIVE = np.float32([[0.5, 0.5], [0.0, 0.0], [1.0, 0.75]])


class ConstantModel:
    """Predicts the same relative points for every crop, and records its inputs."""

    def __init__(self, channels: int = 1, size_hw: tuple[int, int] = (40, 40), margin: float = 2.0):
        self.spec = Spec(SCHEMA, "none", {}, CropRule(size_hw, margin), channels)
        self.batches: list[np.ndarray] = []

    def predict(self, crops: np.ndarray) -> Prediction:
        self.batches.append(crops)
        return Prediction(np.repeat(RELATIVE[None], len(crops), axis=0), None)


class BrightestModel(ConstantModel):
    """Predicts the brightest pixel of each crop."""

    def predict(self, crops: np.ndarray) -> Prediction:
        height, width = crops.shape[1:3]
        rows, columns = np.unravel_index(crops[..., 0].reshape(len(crops), -1).argmax(axis=1), (height, width))
        spot = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1)
        return Prediction(np.repeat(spot[:, None], 3, axis=1).astype(np.float32), None)


FACE_SCORE = {"middle": float(np.log(0.1)), "slope": 4.0}


class TellingModel(ConstantModel):
    """Predicts an uncertainty by the brightness of the first pixel: 0.01 of the crop, plus 0.19 for white."""

    def __init__(self, face_score: dict[str, float] | None = None, **options):
        super().__init__(**options)
        self.spec = dataclasses.replace(self.spec, uncertainty=True, face_score=face_score)

    def predict(self, crops: np.ndarray) -> Prediction:
        said = 0.01 + 0.19 * crops[:, 0, 0, :1].astype(np.float32) / 255
        return Prediction(super().predict(crops).keypoints, said * np.float32([1, 0.5, 1.5]))


def no_detector(image: np.ndarray) -> np.ndarray:
    raise AssertionError("no detector should run")


def finds(*boxes: tuple[float, float, float, float]):
    return lambda image: np.float32(boxes).reshape(-1, 4)


PHOTO = np.zeros((100, 200, 3), np.uint8)


class TestPredictor:
    def test_points_in_the_photograph_by_hand(self):
        # The box is 20 wide around (50, 40), the crop twice that: from 30 to 70 and from 20 to 60.
        (face,) = Predictor(ConstantModel(), no_detector)(PHOTO, boxes=[(40, 30, 60, 50)])
        np.testing.assert_allclose(face.keypoints, [[50, 40], [30, 20], [70, 50]], atol=1e-4)
        assert face.keypoints.dtype == np.float32
        np.testing.assert_allclose(face.box, [30, 20, 70, 50], atol=1e-4)
        assert face.detection_box.tolist() == [40, 30, 60, 50]
        assert face.schema is SCHEMA

    @settings(max_examples=40, deadline=None)
    @given(
        st.floats(-1.9, 199),
        st.floats(-1.9, 99),
        st.floats(2, 300),
        st.floats(2, 300),
        st.floats(0.8, 3),
        st.integers(8, 50),
    )
    def test_relative_points_are_fractions_of_the_crop(self, x, y, width, height, margin, size):
        model = ConstantModel(size_hw=(size, size), margin=margin)
        (face,) = Predictor(model, no_detector)(PHOTO, boxes=[(x, y, x + width, y + height)])
        side = margin * max(width, height)
        corner = np.array([x + width / 2, y + height / 2]) - side / 2
        np.testing.assert_allclose(face.keypoints, corner + RELATIVE * side, atol=2e-3 * side / size + 2e-3)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_points_are_at_the_pixels_that_the_model_found(self, channels):
        photo = PHOTO.copy()
        photo[33, 57] = 255
        model = BrightestModel(channels, size_hw=(80, 80), margin=1.0)
        for box in [(40, 10, 80, 50), (50, 30, 70, 45), (30, 0, 190, 100)]:
            (face,) = Predictor(model, no_detector)(photo, boxes=[box])
            pixels_per_cell = max(box[2] - box[0], box[3] - box[1]) / 80
            np.testing.assert_allclose(face.point("left"), [57, 33], atol=0.51 * max(pixels_per_cell, 1))

    def test_all_faces_are_one_batch_and_equal_their_singles(self):
        model, boxes = ConstantModel(3), [(0, 0, 10, 10), (50, 50, 90, 90), (-20, 5, 60, 45)]
        together = Predictor(model)(PHOTO, boxes)
        assert [batch.shape for batch in model.batches] == [(3, 40, 40, 3)]
        for face, box in zip(together, boxes, strict=True):
            (alone,) = Predictor(model)(PHOTO, [box])
            np.testing.assert_array_equal(face.keypoints, alone.keypoints)

    def test_detected_faces_are_largest_first_and_given_boxes_keep_their_order(self):
        boxes = [(0, 0, 10, 10), (50, 50, 90, 90), (20, 20, 40, 40)]
        found = Predictor(ConstantModel(), finds(*boxes))(PHOTO)
        assert [face.detection_box[2] for face in found] == [90, 40, 10]
        given_boxes = Predictor(ConstantModel(), no_detector)(PHOTO, boxes)
        assert [face.detection_box[2] for face in given_boxes] == [10, 90, 40]

    @pytest.mark.parametrize("boxes", [None, [], np.zeros((0, 4))])
    def test_without_a_face_the_list_is_empty_and_the_model_does_not_run(self, boxes):
        model = ConstantModel()
        assert Predictor(model, finds())(PHOTO, boxes) == []
        assert model.batches == []

    @pytest.mark.parametrize(
        ("boxes", "parts"),
        [
            ([(0, 0, 9, 9), (5, 5, 5, 9)], ["x0 < x1", "[5.0, 5.0, 5.0, 9.0]"]),
            ([(9, 0, 0, 9)], ["x0 < x1", "[9.0, 0.0, 0.0, 9.0]"]),
            ([(0, 0, float("nan"), 9)], ["[0.0, 0.0, nan, 9.0]"]),
            ([(0, 0, float("inf"), 9)], ["[0.0, 0.0, inf, 9.0]"]),
            ((0, 0, 9, 9), ["(N, 4)", "(4,)"]),
            ([(0, 0, 9)], ["(N, 4)", "(1, 3)"]),
            ([(0, 0, 9), (1, 2, 3, 4)], ["(N, 4)", "(0, 0, 9)"]),
            ([("a", 0, 9, 9)], ["(N, 4)", "'a'"]),
            ([(10**400, 0, 9, 9)], ["(N, 4)"]),
            ([(1e39, 0, 9, 9)], ["finite", "1"]),
            ([(5, 5, 9, 9), (-20, 5, -9, 9)], ["2", "[-20.0, 5.0, -9.0, 9.0]"]),
            ([(5, 5000, 9, 5009)], ["1", "[5.0, 5000.0, 9.0, 5009.0]"]),
        ],
    )
    def test_invalid_boxes_are_errors(self, boxes, parts):
        with pytest.raises(KpdetectError, match=mentions(*parts)):
            Predictor(ConstantModel())(PHOTO, boxes)

    def test_invalid_model_outputs_are_errors(self):
        class Broken(ConstantModel):
            def predict(self, crops):
                return Prediction(np.full((len(crops), 3, 2), np.nan, np.float32), None)

        with pytest.raises(KpdetectError, match="finite"):
            Predictor(Broken())(PHOTO, [(0, 0, 9, 9)])

    def test_uncertainty_by_hand(self):
        # The box is 20 wide, the crop twice that: a hundredth of it is 0.4 pixels.
        (face,) = Predictor(TellingModel(), no_detector)(PHOTO, boxes=[(40, 30, 60, 50)])
        np.testing.assert_allclose(face.uncertainty, [0.4, 0.2, 0.6], rtol=1e-5)
        assert face.uncertainty.dtype == np.float32
        np.testing.assert_array_equal(
            face.keypoints, Predictor(ConstantModel())(PHOTO, boxes=[(40, 30, 60, 50)])[0].keypoints
        )

    @pytest.mark.parametrize(("size_hw", "side"), [((40, 80), 80), ((80, 40), 80), ((40, 40), 40)])
    def test_uncertainty_is_relative_to_the_longer_side_of_the_crop(self, size_hw, side):
        # The box is twice as wide as its share of the crop allows; one crop pixel is `pixels` of the photograph.
        pixels = 2.0 * max(20 / size_hw[0], 20 / size_hw[1])
        (face,) = Predictor(TellingModel(size_hw=size_hw), no_detector)(PHOTO, boxes=[(40, 30, 60, 50)])
        assert face.uncertainty[0] == pytest.approx(0.01 * side * pixels, rel=1e-5)

    @settings(max_examples=20, deadline=None)
    @given(st.floats(2, 150), st.floats(2, 150), st.floats(0.3, 5))
    def test_uncertainty_scales_with_the_photograph(self, width, height, scale):
        model, corner = Predictor(TellingModel(FACE_SCORE), no_detector), np.float32([20, 30])
        boxes = [(*corner, *corner + share * np.float32([width, height])) for share in (1, scale)]
        one, other = model(PHOTO, boxes)
        np.testing.assert_allclose(other.uncertainty, one.uncertainty * scale, rtol=1e-4)
        assert other.score == pytest.approx(one.score)  # relative to the crop

    def test_the_score_falls_with_the_uncertainty_and_is_one_half_at_the_middle(self):
        photo = PHOTO.copy()
        photo[:50, 100:] = 255
        photo[50:] = round(255 * 9 / 19)  # predicted error of a tenth
        boxes = [(20, 20, 30, 30), (140, 20, 150, 30), (40, 70, 50, 80)]
        sure, unsure, middle = Predictor(TellingModel(FACE_SCORE), no_detector)(photo, boxes)
        assert 0.99 < sure.score <= 1
        assert 0 <= unsure.score < 0.1
        assert middle.score == pytest.approx(0.5, abs=0.01)
        assert sure.uncertainty.max() < unsure.uncertainty.min()
        assert isinstance(sure.score, float)

    def test_without_face_score_or_uncertainty_both_are_none(self):
        box = [(40, 30, 60, 50)]
        assert Predictor(TellingModel(None))(PHOTO, box)[0].score is None
        (silent,) = Predictor(ConstantModel())(PHOTO, box)
        assert (silent.score, silent.uncertainty) == (None, None)

    def test_image_types(self):
        for shape in [(50, 60), (50, 60, 1), (50, 60, 3), (50, 60, 4)]:
            assert len(Predictor(ConstantModel())(np.zeros(shape, np.uint8), [(0, 0, 9, 9)])) == 1
        with pytest.raises(KpdetectError, match=mentions("(50, 60, 2)")):
            Predictor(ConstantModel())(np.zeros((50, 60, 2), np.uint8), [(0, 0, 9, 9)])

    def test_every_pixel_type_gives_the_same_crop(self):
        photo = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
        kinds = [
            photo,
            photo.astype(np.uint16) * 257,
            photo / 255,
            (photo / 255).astype(np.float32),
            photo.astype(float),
        ]
        model = ConstantModel(channels=3)
        for kind in kinds:
            Predictor(model)(kind, [(10, 5, 50, 45)])
        Predictor(model)(photo[..., ::-1], [(10, 5, 50, 45)], bgr=True)
        for batch in model.batches[1:]:
            np.testing.assert_array_equal(batch, model.batches[0])

    def test_files_equal_arrays(self, tmp_path):
        photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
        write_image(tmp_path / "photo.png", photo)
        model, boxes = BrightestModel(), [(10, 10, 50, 50)]
        (of_array,) = Predictor(model)(photo, boxes)
        for file in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
            np.testing.assert_array_equal(Predictor(model)(file, boxes)[0].keypoints, of_array.keypoints)

    def test_exif_orientation_is_applied(self, tmp_path):
        seen = np.zeros((60, 90, 3), np.uint8)
        seen[10:15, 70:75] = 255  # the brightest spot, at the upper right
        file = tmp_path / "turned.jpg"
        _, encoded = cv2.imencode(".jpg", np.rot90(seen), [cv2.IMWRITE_JPEG_QUALITY, 100])
        # EXIF orientation 6: rotate by 90 degrees clockwise for display.
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        file.write_bytes(encoded.tobytes()[:2] + segment + encoded.tobytes()[2:])
        assert read_image(file).shape == seen.shape
        (face,) = Predictor(BrightestModel(size_hw=(90, 90), margin=1.0))(file, [(0, -15, 90, 75)])
        np.testing.assert_allclose(face.point("left"), [72, 12], atol=2.6)

    def test_a_mirrored_photograph_gives_mirrored_points(self):
        photo = PHOTO.copy()
        photo[33, 57] = 255
        flip = horizontal_flip(200)
        box = np.float32([[40, 10], [80, 50]])
        low, high = apply_matrix(flip, box)[::-1]
        mirrored_box = [low[0], high[1], high[0], low[1]]
        model = BrightestModel(size_hw=(40, 40), margin=1.0)
        (plain,) = Predictor(model)(photo, [box.ravel()])
        (mirrored,) = Predictor(model)(photo[:, ::-1], [mirrored_box])
        np.testing.assert_allclose(apply_matrix(flip, mirrored.keypoints), plain.keypoints, atol=1.01)

    @pytest.mark.parametrize(
        ("image", "named"),
        [
            ([PHOTO, PHOTO], [r"list of 2", r"\.batch\("]),
            (["one.jpg"], [r"list of 1", r"\.batch\("]),
            (np.stack([PHOTO, PHOTO]), [r"\(2, 100, 200, 3\)", r"\.batch\("]),
            (None, ["None", "cv2.imread"]),
            ("https://example.com/face.jpg", ["https://example.com/face.jpg", "urlretrieve"]),
            ("a\0b.jpg", ["null"]),
            ([[1, 2], [3]], ["list of 2", "array of numbers"]),
            ({}, ["image"]),
        ],
    )
    def test_other_inputs_are_errors_with_a_remedy(self, image, named):
        for pattern in named:
            with pytest.raises(KpdetectError, match=pattern):
                Predictor(ConstantModel())(image)

    @pytest.mark.parametrize("images", [None, "photo.jpg", Path("photo.jpg"), PHOTO, PHOTO[..., 0]])
    def test_a_single_photograph_for_batch_is_an_error(self, images):
        with pytest.raises(KpdetectError, match=r"predictor\(image\)"):
            Predictor(ConstantModel()).batch(images)

    @pytest.mark.parametrize("side", [1e5, 1e9, 1e30])
    def test_a_box_much_larger_than_the_photograph_is_clipped(self, side):
        """The crop would take gigabytes."""
        photo = np.full((100, 200, 3), 9, np.uint8)
        for box in [(-side, -side, side, side), (10, 10, side, 60), (-side, 10, 50, side)]:
            (face,) = Predictor(ConstantModel())(photo, boxes=[box])
            np.testing.assert_array_equal(face.detection_box, np.clip(box, -800, [1000, 900, 1000, 900]))
            assert np.isfinite(face.keypoints).all()
        tracemalloc.start()
        Predictor(ConstantModel())(photo, boxes=[(-side, -side, side, side)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 * photo.nbytes

    def test_boxes_of_a_detector_are_clipped_too_and_those_outside_left_out(self):
        found = Predictor(ConstantModel(), finds((-1e9, 0, 90, 90), (1e9, 0, 2e9, 90), (5, 5, 9, 9)))(PHOTO)
        assert [face.detection_box.tolist() for face in found] == [[-800, 0, 90, 90], [5, 5, 9, 9]]

    def test_a_box_over_the_border_is_kept(self):
        (face,) = Predictor(ConstantModel())(PHOTO, boxes=[(-150, -120, 340, 210)])
        assert face.detection_box.tolist() == [-150, -120, 340, 210]

    def test_bytes_open_files_and_pil_images_equal_the_path(self, tmp_path):
        pillow = pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, in kpdetect[test]")
        photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
        file = tmp_path / "photo.png"
        write_image(file, photo)
        model, boxes = BrightestModel(), [(10, 10, 50, 50)]
        (expected,) = Predictor(model)(file, boxes)
        data = file.read_bytes()
        with file.open("rb") as opened, pillow.open(file) as pil_image:
            for image in (data, bytearray(data), memoryview(data), io.BytesIO(data), opened, pil_image):
                np.testing.assert_array_equal(Predictor(model)(image, boxes)[0].keypoints, expected.keypoints)
        with file.open(encoding="latin-1") as text, pytest.raises(KpdetectError, match=mentions("'rb'")):
            Predictor(model)(text, boxes)
        with pytest.raises(KpdetectError, match="image"):
            Predictor(model)(b"no photograph", boxes)

    def test_a_predictor_is_pickled_and_copied_as_its_arguments(self):
        photo = load("synthetic:1")
        pixels = photo.read(photo.paths[0])
        first = Predictor(second_look=False, min_score=0.3)
        (expected,) = first(pixels)
        for other in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first), copy.copy(first)):
            (face,) = other(pixels)
            np.testing.assert_array_equal(face.keypoints, expected.keypoints)
            assert other.model is not first.model
        assert Predictor(ConstantModel(), untrusted=True).__reduce__()[1][6] is True  # also in the other process
        assert len(pickle.dumps(first)) < 1000

    def test_a_loaded_model_is_pickled_as_its_file(self):
        model = load_model("compact-160-v2", threads=2)
        first, second = Predictor(model), pickle.loads(pickle.dumps(Predictor(model)))
        crops = np.zeros((1, *model.spec.input_shape), np.uint8)
        np.testing.assert_array_equal(second.model.predict(crops).keypoints, first.model.predict(crops).keypoints)
        assert second.model == dataclasses.replace(model, _run=second.model._run)

    def test_a_face_is_pickled_and_copied(self):
        (face,) = Predictor(TellingModel(FACE_SCORE), no_detector)(PHOTO, boxes=[(40, 30, 60, 50)])
        for other in (pickle.loads(pickle.dumps(face)), copy.deepcopy(face)):
            assert other.schema == face.schema
            assert (other.score, str(other)) == (face.score, str(face))
            for name in ("keypoints", "uncertainty", "detection_box", "box"):
                np.testing.assert_array_equal(getattr(other, name), getattr(face, name))
        assert dataclasses.asdict(face)["keypoints"].tolist() == face.keypoints.tolist()

    def test_rows_of_plain_numbers_are_a_photograph(self):
        (face,) = Predictor(ConstantModel())([[0.5] * 40] * 30, [(0, 0, 9, 9)])
        assert face.keypoints.shape == (3, 2)

    def test_a_path_is_loaded_with_threads_and_none_is_the_shipped_model(self, monkeypatch):
        loaded = []
        monkeypatch.setattr(predictor_module, "shipped_model", lambda: Path("shipped"))
        monkeypatch.setattr(
            predictor_module,
            "load",
            lambda path, threads, untrusted, *_: loaded.append((str(path), threads, untrusted)),
        )
        Predictor()
        Predictor("some.tflite", threads=3, untrusted=True)
        Predictor(ConstantModel())
        assert loaded == [("shipped", 1, False), ("some.tflite", 3, True)]

    def test_a_missing_model_is_an_error(self, tmp_path):
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "gone"))):
            Predictor(tmp_path / "gone")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate(("b.png", "a.jpg")):
        write_image(folder / name, np.full((50 + index, 60, 3), 100, np.uint8))
    (folder / "labels.csv").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    (folder / "deeper.png").mkdir()
    return folder


@pytest.fixture
def command(monkeypatch):
    """The command, with a detector that finds one face in every photograph."""
    real = Predictor
    monkeypatch.setattr(
        predict,
        "Predictor",
        lambda model, detector, **options: real(ConstantModel(), finds((10, 10, 30, 30)), second_look=False, **options),
    )
    return lambda *words: run_command(predict.main, [str(word) for word in words])


EYES = user_schema(["left_eye", "right_eye", "nose"])


class LopsidedModel:
    """Predicts the brightest pixel, shifted to the right by a tenth of the crop."""

    spec = dataclasses.replace(ConstantModel().spec, schema=EYES, uncertainty=True)

    def predict(self, crops: np.ndarray) -> Prediction:
        brightest = BrightestModel().predict(crops).keypoints + np.float32([0.1, 0])
        return Prediction(brightest, np.repeat(np.float32([[0.01, 0.02, 0.03]]), len(crops), axis=0))


class TestMirror:
    def test_mirroring_cancels_a_horizontal_bias_and_keeps_names(self):
        photo = PHOTO.copy()
        photo[48:53, 68:73] = 255
        box = [(50, 30, 90, 70)]
        (plain,), (both,) = (Predictor(LopsidedModel(), mirror=mirror)(photo, box) for mirror in (False, True))
        assert np.abs(plain.keypoints - (70, 50)).max() > 5
        np.testing.assert_allclose(both.keypoints, np.broadcast_to((70, 50), (3, 2)), atol=1.5)
        scale = plain.uncertainty[0] / 0.01
        np.testing.assert_allclose(both.uncertainty / scale, [0.015, 0.015, 0.03], rtol=1e-5)

    def test_a_mirrored_photograph_has_mirrored_points(self):
        random = np.random.default_rng(0)
        photo = np.asarray(random.integers(0, 256, (60, 80, 3)), np.uint8)
        predictor = Predictor(LopsidedModel(), mirror=True)
        (plain,) = predictor(photo, [(20, 10, 60, 50)])
        (turned,) = predictor(photo[:, ::-1], [(79 - 60, 10, 79 - 20, 50)])
        swapped = turned.keypoints[[1, 0, 2]] * (-1, 1) + (79, 0)
        np.testing.assert_allclose(swapped, plain.keypoints, atol=1e-3)

    def test_a_scheme_without_sides_cannot_be_mirrored(self):
        model = ConstantModel()
        model.spec = dataclasses.replace(model.spec, schema=user_schema(["tip", "base", "root"]))
        Predictor(model)
        with pytest.raises(KpdetectError, match=mentions("mirror", model.spec.schema.name)):
            Predictor(model, mirror=True)


class TestBatch:
    def test_a_batch_equals_single_calls(self):
        random = np.random.default_rng(2)
        photos = [np.asarray(random.integers(0, 256, (height, 80, 3)), np.uint8) for height in (60, 70, 90)]
        boxes = [[(10, 5, 50, 45), (20, 20, 60, 60)], np.zeros((0, 4)), [(0, 0, 40, 40)]]
        model = BrightestModel()
        together = Predictor(model).batch(photos, boxes)
        assert [len(faces) for faces in together] == [2, 0, 1]
        assert len(model.spec.schema.point_names) == 3
        for faces, photo, own in zip(together, photos, boxes, strict=True):
            for face, alone in zip(faces, Predictor(model)(photo, own), strict=True):
                np.testing.assert_allclose(face.keypoints, alone.keypoints)

    def test_all_faces_are_one_batch_of_the_model(self):
        model = ConstantModel()
        detector = finds((10, 10, 30, 30), (50, 10, 80, 40))
        found = Predictor(model, detector, second_look=False).batch([PHOTO, PHOTO, PHOTO])
        assert [len(faces) for faces in found] == [2, 2, 2]
        assert [len(batch) for batch in model.batches] == [6]

    def test_a_batch_in_threads_equals_single_calls(self):
        predictor = Predictor()
        faces = synthetic.annotations(7, size=192)
        photos = [faces.read(path) for path in faces.paths]
        alone = [predictor(photo) for photo in photos]
        for workers in (1, 2, 3):
            together = predictor.batch(photos, workers=workers)
            assert [len(found) for found in together] == [len(found) for found in alone]
            for found, single in zip(together, alone, strict=True):
                for face, other in zip(found, single, strict=True):
                    np.testing.assert_allclose(face.keypoints, other.keypoints, atol=1e-3)
                    assert face.score == pytest.approx(other.score, abs=1e-4)
        assert sum(map(len, alone)) >= 5

    def test_own_detectors_and_models_are_called_from_the_calling_thread(self):
        threads = set()

        def detect(pixels):
            threads.add(threading.get_ident())
            return [(10, 10, 30, 30)]

        assert Predictor(ConstantModel(), detect).default_workers == 1
        Predictor(ConstantModel(), detect).batch([PHOTO] * 6)
        assert threads == {threading.get_ident()}
        Predictor(ConstantModel(), detect).batch([PHOTO] * 6, workers=2)
        assert threads - {threading.get_ident()}

    def test_the_first_bad_photograph_of_a_batch_is_named(self, tmp_path):
        paths = [tmp_path / f"{number}.png" for number in range(5)]
        write_image(paths[0], PHOTO)
        for workers in (1, 2):
            with pytest.raises(KpdetectError, match=mentions("1.png")):
                Predictor(ConstantModel(), finds()).batch(paths, workers=workers)
        with pytest.raises(KpdetectError, match=mentions("workers", "0")):
            Predictor(ConstantModel()).batch([PHOTO], workers=0)

    def test_an_empty_batch_gives_no_faces(self):
        assert Predictor(ConstantModel()).batch([]) == []

    def test_boxes_for_another_number_of_images_are_an_error(self):
        with pytest.raises(KpdetectError, match=mentions("boxes", "2", "1")):
            Predictor(ConstantModel()).batch([PHOTO, PHOTO], [None])


class ThreeSpotsModel(ConstantModel):
    """Predicts the brightest red, green and blue pixels of a crop: eyes and nose."""

    def __init__(self):
        super().__init__(channels=3, size_hw=(64, 64), margin=1.5)
        schema = dataclasses.replace(EYES, normalizer_points=(0, 1))
        self.spec = dataclasses.replace(self.spec, schema=schema, uncertainty=True)

    def predict(self, crops: np.ndarray) -> Prediction:
        self.batches.append(crops)
        spots = [(crop[..., c].argmax() % 64, crop[..., c].argmax() // 64) for crop in crops for c in (1, 0, 2)]
        return Prediction((np.float32(spots).reshape(-1, 3, 2) + 0.5) / 64, np.full((len(crops), 3), 0.01, np.float32))


class TestSecondLook:
    @pytest.fixture
    def photo(self) -> np.ndarray:
        photo = np.zeros((200, 200, 3), np.uint8)
        for (x, y), channel in {(80, 90): 0, (120, 110): 1, (90, 120): 2}.items():
            photo[y - 2 : y + 3, x - 2 : x + 3, channel] = 255
        return photo

    BOX = (60, 70, 140, 150)

    def test_the_second_crop_is_upright_around_the_points(self, photo):
        model = ThreeSpotsModel()
        (face,) = Predictor(model, finds(self.BOX))(photo)
        first, second = model.batches
        assert abs(first[0, ..., 0].argmax() // 64 - first[0, ..., 1].argmax() // 64) > 5
        assert abs(second[0, ..., 0].argmax() // 64 - second[0, ..., 1].argmax() // 64) <= 1
        np.testing.assert_allclose(face.keypoints, [(120, 110), (80, 90), (90, 120)], atol=2.5)

    def test_by_default_only_detected_faces_have_a_second_look(self, photo):
        model = ThreeSpotsModel()
        Predictor(model)(photo, [self.BOX])
        assert len(model.batches) == 1
        Predictor(model, second_look=True)(photo, [self.BOX])
        assert len(model.batches) == 3
        Predictor(model, finds(self.BOX), second_look=False)(photo)
        assert len(model.batches) == 4

    def test_the_uncertainty_is_scaled_by_the_second_crop(self, photo):
        (once,) = Predictor(ThreeSpotsModel(), second_look=False)(photo, [self.BOX])
        (twice,) = Predictor(ThreeSpotsModel(), second_look=True)(photo, [self.BOX])
        assert once.uncertainty[0] == pytest.approx(0.01 * 1.5 * 80, rel=1e-3)
        extent = 44.7  # from eye to eye, which is horizontal in the second crop
        assert twice.uncertainty[0] == pytest.approx(0.01 * 1.5 * extent, rel=0.15)

    def test_points_without_area_keep_their_first_prediction(self):
        (face,) = Predictor(BrightestModel(), second_look=True)(PHOTO, [(40, 30, 60, 50)])
        (first,) = Predictor(BrightestModel(), second_look=False)(PHOTO, [(40, 30, 60, 50)])
        np.testing.assert_array_equal(face.keypoints, first.keypoints)


class TestMinScore:
    PHOTO = np.concatenate([np.zeros((100, 100, 3), np.uint8), np.full((100, 100, 3), 255, np.uint8)], axis=1)
    SURE, UNSURE = (40, 40, 60, 60), (140, 40, 160, 60)

    def found(self, **options) -> list[tuple[float, ...]]:
        detector = finds(self.SURE, self.UNSURE)
        return [
            tuple(face.detection_box.tolist())
            for face in Predictor(TellingModel(FACE_SCORE), detector, **options)(self.PHOTO)
        ]

    def test_boxes_with_a_low_score_are_left_out(self):
        assert self.found() == [self.SURE]
        assert set(self.found(min_score=0)) == {self.SURE, self.UNSURE}
        assert self.found(min_score=1) == []

    def test_rejected_boxes_are_counted(self):
        predictor = Predictor(TellingModel(FACE_SCORE), finds(self.SURE, self.UNSURE, self.UNSURE))
        (result,) = predictor.results([self.PHOTO])
        assert ([face.detection_box.tolist() for face in result.faces], result.below_min_score) == (
            [list(self.SURE)],
            2,
        )
        (result,) = predictor.results([self.PHOTO], [[self.SURE, self.UNSURE]])
        assert (len(result.faces), result.below_min_score) == (2, 0)

    def test_the_command_prints_how_many_boxes_were_rejected(self, monkeypatch, tmp_path, capsys):
        write_image(tmp_path / "photo.png", self.PHOTO)
        real = Predictor
        boxes = finds(self.SURE, self.UNSURE)
        make = lambda model, detector, **options: real(TellingModel(FACE_SCORE), boxes, **options)  # noqa: E731
        monkeypatch.setattr(predict, "Predictor", make)
        for words, shown in ([], "; 1 box below --min-score"), (["--min-score", "0"], ""):
            assert (
                run_command(predict.main, [str(tmp_path / "photo.png"), *words, "--json", str(tmp_path / "o.json")])
                == 0
            )
            line = capsys.readouterr().out.strip()
            assert line.endswith(shown or "]")
            (report,) = json.loads((tmp_path / "o.json").read_text())
            assert report["boxes_below_min_score"] == bool(shown)

    def test_given_boxes_are_not_rejected(self):
        assert len(Predictor(TellingModel(FACE_SCORE))(self.PHOTO, [self.SURE, self.UNSURE])) == 2

    def test_a_model_without_a_score_rejects_nothing(self):
        assert len(Predictor(TellingModel(), finds(self.SURE, self.UNSURE), second_look=False)(self.PHOTO)) == 2

    @pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
    def test_an_invalid_min_score_is_an_error(self, score):
        with pytest.raises(KpdetectError, match=mentions("min_score", "0", "1")):
            Predictor(TellingModel(), min_score=score)


class TestCommand:
    def test_the_command_prints_the_faces(self, command, photos, capsys):
        assert command(photos / "a.jpg", photos / "b.png") == 0
        lines = capsys.readouterr().out.splitlines()
        for line, name in zip(lines, ("a.jpg", "b.png"), strict=True):
            assert lines_with(line, f"{photos}/{name}", "1", "[0 0 40 30]")

    def test_stdout_has_json_only(self, command, photos, capsys):
        assert command(photos, "--json", "-") == 0
        reports = json.loads(capsys.readouterr().out)
        assert [Path(report["image"]).name for report in reports] == ["a.jpg", "b.png"]
        assert (reports[0]["width"], reports[0]["height"], reports[0]["scheme"]) == (60, 51, "user")
        (face,) = reports[0]["faces"]
        assert face["box"] == [0, 0, 40, 30]
        assert face["detection_box"] == [10, 10, 30, 30]
        assert dict(zip(face["names"], face["keypoints"], strict=True))["left"] == [20, 20]

    def test_json_and_drawings_in_files(self, command, photos, tmp_path):
        assert command(photos, "--json", tmp_path / "out" / "p.json", "--draw", tmp_path / "marked") == 0
        assert len(json.loads((tmp_path / "out" / "p.json").read_text())) == 2
        assert sorted(file.name for file in (tmp_path / "marked").iterdir()) == ["a.jpg", "b.png"]
        drawn = read_image(tmp_path / "marked" / "b.png")
        assert drawn.shape == (50, 60, 3)
        assert (drawn != 100).any()

    def test_a_photograph_above_the_limit_is_reported_before_it_is_decoded(self, command, photos, capsys):
        assert command(photos, "--max-megapixels", "0.003") == 2
        captured = capsys.readouterr()
        assert lines_with(captured.err, f"{photos}/a.jpg", "0.003", "60", "51", "--max-megapixels")
        assert captured.out.count("\n") == 1
        assert lines_with(captured.out, f"{photos}/b.png", "1", "[0 0 40 30]")

    def test_one_drawing_in_a_file(self, command, photos, tmp_path):
        assert command(photos / "a.jpg", "--draw", tmp_path / "one.png") == 0
        assert read_image(tmp_path / "one.png").shape == (51, 60, 3)

    def test_a_bad_file_is_reported_and_the_others_are_processed(self, command, photos, tmp_path, capsys):
        words = [photos / "labels.csv", photos / "a.jpg", photos / "gone.jpg", "--json", tmp_path / "p.json"]
        assert command(*words) == 2
        errors = capsys.readouterr().err
        assert "labels.csv" in errors
        assert "gone.jpg" in errors
        assert [report["image"] for report in json.loads((tmp_path / "p.json").read_text())] == [f"{photos}/a.jpg"]

    def test_nothing_is_written_if_no_file_can_be_read(self, command, photos, tmp_path, capsys):
        out = tmp_path / "out"
        out.mkdir()
        assert command(photos / "labels.csv", "--json", out / "p.json", "--draw", out / "p.png") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"kpdetect: {photos}/labels.csv: ")
        assert error.count("\n") == 1
        assert command(photos / "labels.csv", photos / "gone.jpg", "--json", out / "p.json") == 2
        assert lines_with(capsys.readouterr().err, "2")
        assert not list(out.iterdir())

    def test_no_faces_is_no_error(self, monkeypatch, photos, capsys):
        real = Predictor
        monkeypatch.setattr(
            predict, "Predictor", lambda model, detector, **options: real(ConstantModel(), finds(), **options)
        )
        assert run_command(predict.main, [str(photos / "a.jpg"), "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["faces"] == []
        assert run_command(predict.main, [str(photos / "a.jpg")]) == 0
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        assert lines_with(out, f"{photos}/a.jpg", "0")

    def test_invalid_targets_are_errors_and_photographs_are_kept(self, command, photos, tmp_path, capsys):
        (tmp_path / "other").mkdir()
        write_image(tmp_path / "other" / "a.jpg", PHOTO)
        for words, parts in [
            ([photos, "--draw", photos], ["--draw", f"{photos}/a.jpg"]),
            ([photos / "a.jpg", "--draw", photos / "a.jpg"], ["--draw", f"{photos}/a.jpg"]),
            ([photos, "--draw", tmp_path / "one.png"], ["--draw", f"{tmp_path}/one.png", "2"]),
            ([photos / "a.jpg", "--json", photos], [str(photos)]),
            ([photos / "deeper.png"], [f"{photos}/deeper.png"]),
        ]:
            before = (photos / "a.jpg").read_bytes()
            assert command(*words) == 2
            assert lines_with(capsys.readouterr().err, *parts)
            assert (photos / "a.jpg").read_bytes() == before
        assert not (tmp_path / "x").exists()

    def test_photographs_of_equal_names_are_drawn_in_their_folders(self, command, photos, tmp_path):
        write_image(tmp_path / "other" / "a.jpg", PHOTO)
        assert command(photos, tmp_path / "other", "--draw", tmp_path / "x") == 0
        drawn = sorted(file.relative_to(tmp_path / "x").as_posix() for file in tmp_path.glob("x/*/*"))
        assert drawn == ["other/a.jpg", "photos/a.jpg", "photos/b.png"]

    @pytest.mark.parametrize("name", ["x.heic", "x.jfif"])
    def test_a_drawing_of_a_format_that_cannot_be_written_is_an_error_and_no_folder(
        self, name, command, photos, tmp_path, capsys
    ):
        assert command(photos / "a.jpg", "--draw", tmp_path / name) == 2
        assert lines_with(capsys.readouterr().err, "--draw", f"{tmp_path}/{name}", ".png")
        assert not (tmp_path / name).exists()

    def test_a_drawing_as_gif_is_a_picture(self, command, photos, tmp_path):
        if not cv2.haveImageWriter("x.gif"):
            pytest.skip("this OpenCV cannot write GIF")
        assert command(photos / "a.jpg", "--draw", tmp_path / "x.gif") == 0
        assert (tmp_path / "x.gif").read_bytes()[:4] == b"GIF8"

    def test_a_folder_or_glob_includes_every_image_format_and_names_other_files(self, photos, monkeypatch):
        monkeypatch.setattr(inputs, "can_read_heif", lambda: False)
        for name in ("c.gif", "d.JFIF", "e.avif", "f.HEIC", "without"):
            (photos / name).write_bytes(b"x")
        for place in (str(photos), f"{photos}/*"):
            found = list_images([place])
            names = [Path(file).name for file in found.files]
            assert names == ["a.jpg", "b.png", "c.gif", "d.JFIF", "e.avif"]
            assert [
                bool(lines_with(note, place, "3 files", "1 .csv", "1 .heic", "pillow-heif")) for note in found.notes
            ] == [True]
        with pytest.raises(KpdetectError, match=mentions(f"{photos}/*.csv", "1 .csv")):
            list_images([f"{photos}/*.csv"])
        monkeypatch.setattr(inputs, "can_read_heif", lambda: True)
        assert f"{photos}/f.HEIC" in list_images([str(photos)]).files

    def test_files_left_out_of_a_folder_are_printed(self, command, photos, capsys):
        assert command(photos) == 0
        assert lines_with(capsys.readouterr().err, str(photos), "1 file", "1 .csv")

    def test_chips_of_photographs_with_equal_stems_keep_the_suffix(self):
        targets = chip_targets(["in/a.jpg", "in/a.png", "in/b.jpg"], "chips")
        assert [target.name for target in targets.values()] == ["a.jpg", "a.png", "b"]
        targets = chip_targets(["x/a.jpg", "y/a.jpg"], "chips")
        assert [target.as_posix() for target in targets.values()] == ["chips/x/a", "chips/y/a"]

    def test_an_address_is_one_line(self, command, capsys):
        assert command("https://example.com/face.jpg") == 2
        error = capsys.readouterr().err
        assert lines_with(error, "https://example.com/face.jpg", "download")
        assert error.count("\n") == 1

    def test_a_missing_model_is_a_one_line_error(self, photos, capsys):
        assert run_command(predict.main, [str(photos), "--model", "/no/such/model"]) == 2
        assert capsys.readouterr().err.startswith("kpdetect: /no/such/model: ")

    def test_files_are_listed_once_and_folders_are_sorted(self, photos):
        names = list_images([str(photos / "b.png"), str(photos), "x"])
        assert [Path(name).name for name in names.files] == ["b.png", "a.jpg", "x"]

    def test_drawings_have_a_writable_suffix(self):
        assert drawing_targets(["in/x.gif", "in/y.JPG"], "out") == {
            "in/x.gif": Path("out/x.gif.png"),
            "in/y.JPG": Path("out/y.JPG"),
        }
        assert drawing_targets(["x"], None) == {}


HOW_STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}
"""A picture as a camera of each EXIF orientation stores it."""


@pytest.mark.parametrize("orientation", sorted(HOW_STORED))
def test_points_are_correct_for_every_exif_orientation(orientation, tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, in kpdetect[test]")
    faces = load("synthetic:1")
    seen, exif = faces.read(faces.paths[0]), pillow.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "held.png"
    pillow.fromarray(np.ascontiguousarray(HOW_STORED[orientation](seen))).save(file, exif=exif)
    predictor = Predictor()
    (turned,), (plain,) = predictor(file, faces.boxes), predictor(seen, faces.boxes)
    np.testing.assert_array_equal(turned.keypoints, plain.keypoints)
    side = faces.boxes[0, 2] - faces.boxes[0, 0]
    assert np.linalg.norm(turned.keypoints - faces.keypoints[0], axis=1).mean() < 0.1 * side


def test_importing_the_predictor_loads_no_heavy_package():
    heavy = ("tensorflow", "keras", "matplotlib", "pandas", "onnx", "onnxruntime", "scipy", "skimage")
    code = f"import kpdetect.predict, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_photographs_end_to_end(shared_data, tmp_path, monkeypatch, capsys):
    """The face finder with a model that predicts the corners of the box."""
    real = Predictor
    monkeypatch.setattr(
        predict,
        "Predictor",
        lambda model, detector, **options: real(ConstantModel(margin=1.0), second_look=False, **options),
    )
    photo = shared_data / "photos" / "portrait_exif.jpg"
    assert (
        run_command(predict.main, [str(photo), "--json", str(tmp_path / "p.json"), "--draw", str(tmp_path / "p.jpg")])
        == 0
    )
    (report,) = json.loads((tmp_path / "p.json").read_text())
    assert len(report["faces"]) >= 1
    assert read_image(tmp_path / "p.jpg").shape == (report["height"], report["width"], 3)
    x0, y0, x1, y1 = report["faces"][0]["box"]
    assert 0 < x0 < x1 < report["width"]
    assert 0 < y0 < y1 < report["height"]


@pytest.mark.parametrize("detector", [None, lambda image: [(20, 20, 100, 100)]])
def test_few_frames_lie_between_a_call_and_the_interpreter(detector, monkeypatch):
    """Counts frames of this package at each model run: face finder, keypoint model and second look."""
    from ai_edge_litert.interpreter import Interpreter

    depths, invoke = [], Interpreter.invoke

    def counted(self):
        depths.append(sum(Path(frame.filename).is_relative_to(PACKAGE) for frame in inspect.stack(0)))
        return invoke(self)

    faces = load("synthetic:1")
    predictor = Predictor(detector=detector)
    monkeypatch.setattr(Interpreter, "invoke", counted)
    assert len(predictor(faces.read(faces.paths[0]))) == 1
    assert len(depths) >= 2
    assert max(depths) <= 5


def test_signatures_name_their_types():
    for function in (Predictor, Predictor.__call__, Predictor.batch):
        text = str(inspect.signature(function))
        assert "Union" not in text
        assert "numpy" not in text
    assert "image: 'Image'" in str(inspect.signature(Predictor.__call__))


def test_any_object_with_the_runtime_protocol_is_accepted():
    model = SimpleNamespace(spec=ConstantModel().spec)
    assert Predictor(model, finds())(PHOTO) == []
