"""The command ``evaluate``, with the shipped model and synthetic faces."""

import json
from pathlib import Path

import pytest
from messages import lines_with

from kpdetect import evaluate
from kpdetect.core.options import run_command
from kpdetect.evaluate import main
from kpdetect.evaluation.results import read_rows

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = str(ROOT / "exported_models" / "compact")


@pytest.mark.slow
def test_the_command_writes_a_row_a_report_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_file, rows_file, pictures = tmp_path / "all.json", tmp_path / "rows.csv", tmp_path / "pictures"
    files = ["--json", str(report_file), "--results", str(rows_file), "--out", str(pictures)]
    assert run_command(main, [SHIPPED, "--data", "synthetic:12", *files]) == 0
    told = capsys.readouterr().out
    (row,) = read_rows(rows_file)
    report = json.loads(report_file.read_text())
    assert (row.model, row.file, row.dataset) == ("compact", "compact_int8.tflite", "synthetic")
    assert (row.boxes, row.n, row.normaliser) == ("truth", 12, "inter-ocular")
    assert 1 < row.nme < 40
    assert lines_with(told, "NME", f"{row.nme:.2f} %", "inter-ocular")
    assert report["nme"] == pytest.approx(row.nme, abs=1e-3)
    assert set(report["regions"]) == {"jaw", "brows", "eyes", "nose", "mouth"}
    assert [level for level, _ in report["box_jitter"]["shift"]] == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert set(report["slices"]) == {"yaw", "sharpness", "face"}
    assert all(sum(part["n"] for part in group) == 12 for group in report["slices"].values())
    assert sum(row["n"] for row in report["reliability"]) == 12 * 68
    rates = report["face_score"]
    assert 0 <= rates["faces"] <= 1
    assert rates["num_background"] == 0 or 0 <= rates["background"] <= 1
    for group in report["reliability"]:
        assert lines_with(told, f"{100 * group['expected']:.2f} %", str(group["n"]))
    assert {file.name for file in pictures.iterdir()} == {"worst.png", "error_curve.png", "box_jitter.png"}


def test_stdout_has_json_only(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", "synthetic:6", "--split", "val", "--no-box-jitter", "--json", "-"]
    assert run_command(main, [SHIPPED, *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["split"].split()[0] == "val"
    assert report["box_jitter"] == {}
    assert report["n"] < 6


def test_missed_faces_are_counted_with_the_detectors_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(main, [SHIPPED, "--data", "synthetic:8", "--boxes", "finder", "--no-box-jitter", "--json", "-"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert (report["boxes"], report["n"]) == ("finder", 8)
    assert 0 <= report["missed"] < 8


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["no-such-model", "--data", "synthetic:4"], ["no-such-model"]),
        ([SHIPPED, "--data", "synthetc:4"], ["synthetc", "synthetic"]),
        ([SHIPPED, "--data", "csv:{folder}/faces.csv"], ["68", "ibug68", "2"]),
    ],
)
def test_an_expected_error_is_one_line(
    arguments: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "face.jpg").write_bytes((ROOT / "exported_models/compact/example.jpg").read_bytes())
    (tmp_path / "faces.csv").write_text("image,nose_x,nose_y,chin_x,chin_y\nface.jpg,300,330,310,440\n")
    assert run_command(main, [argument.format(folder=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert lines_with(error, *parts)
    assert "Traceback" not in error


@pytest.mark.parametrize("data", ["nothing:x", "csv:absent.csv", "ibug:absent"])
def test_wrong_data_are_reported_before_a_runtime_starts(data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate.runtime, "load", lambda *arguments, **options: pytest.fail("a runtime was started"))
    assert run_command(main, [SHIPPED, "--data", data]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kpdetect: ")
