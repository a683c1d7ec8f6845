"""The command ``predict`` on data sets: their boxes, several per photograph, and the competition's CSV."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with

from kpdetect import predict
from kpdetect.core.geometry import CropRule, image_box, tight_box
from kpdetect.core.images import read_image, write_image
from kpdetect.core.options import run_command
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema
from kpdetect.data import load
from kpdetect.detection import Face
from kpdetect.inference.inputs import PhotoTask, drawing_targets, tasks_from_data
from kpdetect.inference.outputs import PhotoResult, faces_csv
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec
from kpdetect.predict import Predictor

NOSE_AND_CHIN = user_schema(["nose", "chin"])


class CornerModel:
    """Predicts point k of K at the position k / K along the diagonal of every crop."""

    def __init__(self, schema: KeypointSchema, margin: float = 1.0):
        self.spec = Spec(schema, "none", {}, CropRule((20, 20), margin), 3)

    def predict(self, crops: np.ndarray) -> Prediction:
        share = np.arange(self.spec.num_keypoints, dtype=np.float32) / self.spec.num_keypoints
        return Prediction(np.repeat(np.stack([share, share], axis=1)[None], len(crops), axis=0), None)


def expected_points(boxes: np.ndarray, num_keypoints: int) -> np.ndarray:
    """Predictions of `CornerModel` for square boxes at margin 1: (N, K, 2)."""
    share = np.arange(num_keypoints)[:, None] / num_keypoints
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return low + share * (high - low)


def no_detector(image: np.ndarray) -> np.ndarray:
    raise AssertionError("no detector should run")


@pytest.fixture
def command(monkeypatch):
    """The command with `CornerModel` of a schema; running the detector is an error."""
    real = Predictor

    def run(schema: KeypointSchema, *words: object) -> int:
        monkeypatch.setattr(
            predict, "Predictor", lambda model, detector, **options: real(CornerModel(schema), no_detector, **options)
        )
        return run_command(predict.main, [str(word) for word in words])

    return run


BOXES = np.float32([[10, 10, 30, 30], [5, 0, 25, 20], [40, 20, 50, 30], [-5, 2, 20, 27]])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four faces in three photographs, two of equal names; faces of the first photograph are not adjacent."""
    for name, width in (("a/one.png", 60), ("b/one.png", 70), ("b/two.png", 80)):
        write_image(tmp_path / "photos" / name, np.full((50, width, 3), 100, np.uint8))
    lines = ["image,nose_x,nose_y,chin_x,chin_y,box_x0,box_y0,box_x1,box_y1"]
    for name, box in zip(("a/one.png", "b/one.png", "a/one.png", "b/two.png"), BOXES, strict=True):
        lines.append(f"photos/{name},1,2,3,4,{','.join(str(side) for side in box)}")
    file = tmp_path / "faces.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def read_csv_points(file: Path, num_keypoints: int) -> np.ndarray:
    with open(file, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["Id", "Predicted"]
    assert [int(number) for number, _ in rows] == list(range(len(rows)))
    return np.array([value for _, value in rows], np.float32).reshape(-1, num_keypoints, 2)


class TestData:
    def test_every_photograph_is_read_once_with_the_boxes_of_the_set(self, command, data, capsys):
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--json", "-") == 0
        reports = json.loads(capsys.readouterr().out)
        assert [Path(report["image"]).relative_to(data.parent / "photos").as_posix() for report in reports] == [
            "a/one.png",
            "b/one.png",
            "b/two.png",
        ]
        assert [(report["width"], report["height"], len(report["faces"])) for report in reports] == [
            (60, 50, 2),
            (70, 50, 1),
            (80, 50, 1),
        ]
        boxes = [face["detection_box"] for report in reports for face in report["faces"]]
        np.testing.assert_allclose(boxes, BOXES[[0, 2, 1, 3]])
        for face in reports[0]["faces"]:
            x0, y0, x1, y1 = face["detection_box"]
            np.testing.assert_allclose(face["keypoints"], [[x0, y0], [(x0 + x1) / 2, (y0 + y1) / 2]], atol=1e-3)

    def test_one_line_per_photograph_is_printed(self, command, data, capsys):
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}") == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3
        assert lines_with(lines[0], "a/one.png", "2", "[10 10 20 20]", "[40 20 45 25]")

    def test_drawings_keep_the_folders_of_the_set(self, command, data, tmp_path):
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--draw", tmp_path / "marked") == 0
        drawn = sorted(file.relative_to(tmp_path / "marked").as_posix() for file in tmp_path.glob("marked/*/*"))
        assert drawn == ["a/one.png", "b/one.png", "b/two.png"]
        assert (read_image(tmp_path / "marked" / "b" / "two.png") != 100).any()

    def test_synthetic_faces_have_no_files_but_can_be_drawn_on(self, command, tmp_path):
        assert command(IBUG68, "--data", "synthetic:2", "--draw", tmp_path / "m", "--json", tmp_path / "p.json") == 0
        assert sorted(file.name for file in (tmp_path / "m").iterdir()) == ["0_size_128.png", "1_size_128.png"]
        reports = json.loads((tmp_path / "p.json").read_text())
        np.testing.assert_allclose(
            [one["faces"][0]["detection_box"] for one in reports], load("synthetic:2").boxes, atol=1e-3
        )

    def test_drawings_that_would_replace_the_set_are_an_error(self, command, data, capsys):
        before = (data.parent / "photos" / "a" / "one.png").read_bytes()
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--draw", data.parent / "photos") == 2
        assert lines_with(capsys.readouterr().err, "--draw", str(data.parent / "photos" / "a" / "one.png"))
        assert (data.parent / "photos" / "a" / "one.png").read_bytes() == before

    def test_boxes_of_another_scheme_give_a_warning(self, command, data, capsys):
        assert command(IBUG68, "--data", f"csv:{data}") == 0
        error = capsys.readouterr().err
        assert lines_with(error, "2", "user", "68", "ibug68")

    def test_a_model_of_a_subset_uses_the_boxes_of_all_points(self, command, data, capsys):
        for names in (["nose", "chin"], ["chin"]):
            assert command(user_schema(names), "--data", f"csv:{data}") == 0
            assert not lines_with(capsys.readouterr().err, "user")

    def test_an_invalid_row_is_named_and_can_be_skipped(self, command, data, capsys):
        data.write_text(data.read_text() + "photos/gone.png,1,2,3,4,0,0,5,5\n")
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}") == 2
        assert lines_with(capsys.readouterr().err, f"{data}:6:", "photos/gone.png")
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--skip-bad-rows") == 0

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            ([], ["--data"]),
            (["photo.jpg", "--data", "synthetic:2"], ["--data"]),
            (["photo.jpg", "--competition-csv", "x.csv"], ["--competition-csv", "--data"]),
            (["--competition-csv", "x.csv"], ["--competition-csv", "--data"]),
            (["--data", "sinthetic:2"], ["sinthetic", "synthetic"]),
            (["--data", ""], ["KIND:PLACE"]),
        ],
    )
    def test_invalid_options_are_one_line_errors(self, command, words, parts, capsys):
        assert command(IBUG68, *words) == 2
        error = capsys.readouterr().err
        assert error.startswith("kpdetect: ")
        assert lines_with(error, *parts)
        assert error.count("\n") == 1


class TestFaces:
    """``--csv`` has a row per face, ``--json`` with JSON lines a line per photograph."""

    def test_the_csv_can_be_read_as_a_data_set(self, command, data, tmp_path):
        file = tmp_path / "out" / "points.csv"
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--csv", file) == 0
        again, order = load(f"csv:{file}"), [0, 2, 1, 3]  # sorted by photograph
        assert again.schema.point_names == NOSE_AND_CHIN.point_names
        points = expected_points(BOXES, 2)[order]
        np.testing.assert_allclose(again.boxes, tight_box(points), atol=1e-3)
        np.testing.assert_allclose(again.keypoints, points, atol=1e-3)
        assert [Path(path).resolve() for path in again.paths] == [
            (data.parent / "photos" / name).resolve() for name in ("a/one.png", "a/one.png", "b/one.png", "b/two.png")
        ]

    def test_the_score_is_its_last_column_and_empty_without_one(self, tmp_path):
        points = np.float32([[1, 2], [3, 4.5]])
        faces = [Face(points, NOSE_AND_CHIN, score, detection_box=np.float32([0, 1, 2, 3])) for score in (0.25, None)]
        text = faces_csv([PhotoResult(PhotoTask("drawn"), (9, 9), faces)], NOSE_AND_CHIN, tmp_path)
        assert text.splitlines() == [
            "image,nose_x,nose_y,chin_x,chin_y,box_x0,box_y0,box_x1,box_y1,score",
            "drawn,1.000,2.000,3.000,4.500,1.000,2.000,3.000,4.500,0.2500",
            "drawn,1.000,2.000,3.000,4.500,1.000,2.000,3.000,4.500,",
        ]

    def test_json_lines_are_the_same_reports(self, command, data, tmp_path):
        for name in ("p.json", "p.jsonl"):
            assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--json", tmp_path / name) == 0
        lines = (tmp_path / "p.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == json.loads((tmp_path / "p.json").read_text())


class TestCompetitionCsv:
    def test_points_are_in_the_order_of_the_set(self, command, data, tmp_path):
        file = tmp_path / "out" / "points.csv"
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--competition-csv", file) == 0
        np.testing.assert_allclose(read_csv_points(file, 2), expected_points(BOXES, 2), atol=1e-4)
        assert [one.name for one in file.parent.iterdir()] == ["points.csv"]

    def test_predictions_equal_the_predictor(self, command, tmp_path):
        file, faces = tmp_path / "points.csv", load("synthetic:5:3")
        assert command(IBUG68, "--data", "synthetic:5:3", "--competition-csv", file) == 0
        predictor = Predictor(CornerModel(IBUG68))
        singles = [
            predictor(faces.read(path), [box])[0].keypoints for path, box in zip(faces.paths, faces.boxes, strict=True)
        ]
        np.testing.assert_array_equal(read_csv_points(file, 68), singles)

    def test_an_unreadable_photograph_gives_no_csv_but_other_outputs(self, command, data, tmp_path, capsys):
        (data.parent / "photos" / "b" / "one.png").write_bytes(b"no image")
        csv_file, json_file = tmp_path / "out" / "points.csv", tmp_path / "out" / "points.json"
        words = ["--data", f"csv:{data}", "--competition-csv", csv_file, "--json", json_file]
        assert command(NOSE_AND_CHIN, *words) == 2
        error = capsys.readouterr().err
        assert lines_with(error, "b/one.png")
        assert lines_with(error, "4", "1")
        assert [one.name for one in csv_file.parent.iterdir()] == ["points.json"]
        assert len(json.loads(json_file.read_text())) == 2

    def test_an_older_csv_is_kept_if_a_new_one_fails(self, command, data, tmp_path):
        csv_file = tmp_path / "points.csv"
        csv_file.write_text("older")
        (data.parent / "photos" / "b" / "one.png").write_bytes(b"no image")
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--competition-csv", csv_file) == 2
        assert csv_file.read_text() == "older"

    def test_an_unwritable_target_is_an_error_before_prediction(self, command, data, tmp_path, capsys):
        assert command(NOSE_AND_CHIN, "--data", f"csv:{data}", "--competition-csv", tmp_path) == 2
        captured = capsys.readouterr()
        assert lines_with(captured.err, str(tmp_path))
        assert captured.out == ""

    def test_skipped_rows_are_an_error_since_they_would_shift_the_numbers(self, command, data, tmp_path, capsys):
        data.write_text(data.read_text() + "photos/gone.png,1,2,3,4,0,0,5,5\n")
        csv_file = tmp_path / "points.csv"
        words = ["--data", f"csv:{data}", "--skip-bad-rows", "--competition-csv", csv_file]
        assert command(NOSE_AND_CHIN, *words) == 2
        assert lines_with(capsys.readouterr().err, "--competition-csv", "1")
        assert not csv_file.exists()

    def test_a_model_with_other_points_is_an_error(self, command, data, tmp_path, capsys):
        csv_file = tmp_path / "points.csv"
        assert command(IBUG68, "--data", f"csv:{data}", "--competition-csv", csv_file) == 2
        assert lines_with(capsys.readouterr().err, "2", "user", "68", "ibug68")
        assert not csv_file.exists()


def test_the_unlabelled_faces_of_the_competition(command, shared_data, tmp_path):
    xml = shared_data / "ibug_300w" / "labels_ibug_300W_test_parsed.xml"
    csv_file, json_file = tmp_path / "points.csv", tmp_path / "points.json"
    words = ["--data", f"ibug:{xml}", "--competition-csv", csv_file, "--json", json_file, "--draw", tmp_path / "marked"]
    assert command(IBUG68, *words) == 0
    points = read_csv_points(csv_file, 68)
    assert points.shape == (101, 68, 2)
    corners = [
        re.search(rf"<box [^>]*{side}='(-?\d+)'", line)
        for line in xml.read_text("latin1").splitlines()
        for side in ("left", "top")
        if "<box " in line
    ]
    # The model's first point is the corner of the box, here to within a pixel.
    np.testing.assert_allclose(points[:, 0].ravel(), [int(corner[1]) for corner in corners if corner], atol=1.01)
    in_json = [face["keypoints"] for report in json.loads(json_file.read_text()) for face in report["faces"]]
    np.testing.assert_allclose(points, in_json, atol=0.0006)
    assert len(list((tmp_path / "marked").rglob("*.jpg"))) == 101


class TestOtherSchemes:
    """The predictor and the command work with any schema."""

    @pytest.mark.parametrize("num_keypoints", [1, 58])
    def test_the_command_with_any_number_of_points(self, command, tmp_path, num_keypoints):
        schema = user_schema([f"p{index}" for index in range(num_keypoints)])
        write_image(tmp_path / "photo.png", np.full((60, 60, 3), 100, np.uint8))
        points = ",".join(f"{10 + index % 8},{10 + index // 8}" for index in range(num_keypoints))
        (tmp_path / "faces.csv").write_text(f"photo.png,{points}\n")
        csv_file = tmp_path / "points.csv"
        words = ["--data", f"csv:{tmp_path}/faces.csv", "--competition-csv", csv_file, "--draw", tmp_path / "m.png"]
        assert command(schema, *words) == 0
        assert read_csv_points(csv_file, num_keypoints).shape == (1, num_keypoints, 2)
        assert (read_image(tmp_path / "m.png") != 100).any()

    def test_a_single_point_of_the_whole_photograph(self):
        predictor = Predictor(CornerModel(user_schema(["nose"])), lambda image: [image_box(image.shape[:2])])
        (face,) = predictor(np.zeros((40, 60, 3), np.uint8))
        assert face.detection_box.tolist() == [-0.5, -0.5, 59.5, 39.5]
        # The crop is square, so it extends 10 pixels beyond the upper and lower border.
        np.testing.assert_allclose(face.keypoints, [[-0.5, -10.5]], atol=1e-4)

    def test_the_detector_is_used_for_every_scheme(self):
        for count in (1, 58):
            schema = user_schema([f"p{index}" for index in range(count)])
            predictor = Predictor(CornerModel(schema), lambda image: [(10, 20, 30, 40)], second_look=False)
            (face,) = predictor(np.zeros((60, 60, 3), np.uint8))
            np.testing.assert_allclose(face.keypoints, expected_points(np.float32([[10, 20, 30, 40]]), count)[0])


def test_names_are_relative_to_the_common_folder(tmp_path):
    files = [str(tmp_path / "set" / name) for name in ("a/x.jpg", "b/x.jpg", "b/c/y")]
    targets = drawing_targets(files, "out", keep_folders=True)
    assert list(targets.values()) == [Path("out/a/x.jpg"), Path("out/b/x.jpg"), Path("out/b/c/y.png")]
    (single,) = drawing_targets(files[:1], "out", keep_folders=True).values()
    assert single == Path("out/x.jpg")


def test_the_rows_of_all_photographs_are_those_of_the_set(data):
    work = tasks_from_data(f"csv:{data}", False, None)
    assert sorted(row for one in work.tasks for row in one.rows) == list(range(work.num_rows))
    for one in work.tasks:
        np.testing.assert_array_equal(one.boxes, BOXES[list(one.rows)])


def test_importing_the_predictor_does_not_load_data_sets():
    code = "import kpdetect.predict, sys; print('kpdetect.data' in sys.modules, 'tqdm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
