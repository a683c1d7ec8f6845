"""File names with control characters, or with bytes that are not UTF-8, in every command that prints or writes them."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import lines_with

from kpdetect import predict, track
from kpdetect.core.images import write_image
from kpdetect.core.options import run_command
from kpdetect.core.text import is_utf8, printable
from kpdetect.data import load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such file names")

NOT_UTF8 = os.fsdecode(b"caf\xe9.png")
CONTROL = "red\x1b[31m\nline.png"


@pytest.fixture
def photographs(tmp_path) -> Path:
    folder, faces = tmp_path / "photographs", load("synthetic:1")
    for name in ("plain.png", CONTROL):
        write_image(folder / name, faces.read(faces.paths[0]))
    shutil.copy(folder / "plain.png", folder / NOT_UTF8)
    return folder


@given(st.text(), st.binary())
def test_printable_text_can_be_printed_and_has_no_control_character(text, data):
    for shown in (printable(text), printable(data.decode("utf-8", "surrogateescape"))):
        shown.encode()
        assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)
        assert printable(shown) == shown
        assert is_utf8(shown)


@pytest.mark.parametrize("text", ["photo 1.jpg", "Grüße.png", "写真.jpg", "👩\u200d👧.png", "שלום"])
def test_ordinary_names_are_unchanged(text):
    assert printable(text) == text


def test_predict_writes_and_prints_such_names(photographs, tmp_path, capsys):
    words = ["--json", "o.json", "--csv", "o.csv", "--draw", "drawings", "--crop-faces", "chips"]
    words = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    assert run_command(predict.main, [str(photographs), *words]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert lines_with(captured.out, r"caf\xe9.png", "1 face")
    assert lines_with(captured.out, r"red\x1b[31m\x0aline.png", "1 face")
    assert lines_with(captured.err, "warning", str(tmp_path / "o.csv"), "1", r"caf\xe9.png")
    reports = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert all(os.path.exists(report["image"]) for report in reports)  # JSON contains the original name
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        names = {row["image"] for row in csv.DictReader(file)}
    assert names == {f"photographs/{name}" for name in ("plain.png", CONTROL, r"caf\xe9.png")}
    assert set(os.listdir(tmp_path / "drawings")) == {"plain.png", CONTROL, NOT_UTF8}
    assert len(os.listdir(tmp_path / "chips")) == 3


def test_a_bad_photograph_of_such_a_name_is_one_line(photographs, tmp_path, capsys):
    for name in (CONTROL, NOT_UTF8):
        (photographs / name).write_bytes(b"no photograph")
    assert run_command(predict.main, [str(photographs)]) == 2
    assert run_command(predict.main, [str(photographs / NOT_UTF8)]) == 2
    assert run_command(predict.main, [str(photographs / f"gone{NOT_UTF8}")]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert len(lines_with(error, r"caf\xe9.png")) == 2
    assert len(lines_with(error, r"gonecaf\xe9.png")) == 1
    assert len(lines_with(error, r"red\x1b[31m\x0aline.png")) == 1


def test_label_lists_a_name_that_is_not_utf8_and_labels_the_rest(photographs, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason='needs PyArrow: pip install "kpdetect[label]"')
    pytest.importorskip("ray", reason='needs Ray: pip install "kpdetect[label]"')
    from kpdetect.inference.bulk.folder import LabelFolder
    from kpdetect.inference.bulk.sources import Columns, find_parts
    from kpdetect.inference.bulk.worker import LabelJob, Labeller, PredictorOptions

    out = tmp_path / "labels"
    (part,) = find_parts([str(photographs)], 9, Columns(), out)
    job = LabelJob(PredictorOptions(None, None, mirror=False, min_score=0.5, max_megapixels=250), LabelFolder(out), 2)
    result = Labeller(job).label(0, part)
    assert result.problem == ""
    assert {row["image"] for row in pq.read_table(out / "faces").to_pylist()} == {
        str(photographs / name) for name in ("plain.png", CONTROL)
    }
    (bad,) = pq.read_table(out / "errors").to_pylist()
    assert bad["image"] == rf"{photographs}/caf\xe9.png"
    assert "UTF-8" in bad["reason"]


def test_videos_that_opencv_cannot_open_are_one_line_errors(tmp_path, capsys):
    """OpenCV would end the process."""
    clip = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    clip.write_bytes(b"any")
    assert run_command(track.main, [str(clip)]) == 2
    assert lines_with(capsys.readouterr().err, rf"{tmp_path}/caf\xe9.mp4", "UTF-8")
    write_image(tmp_path / "still.png", np.zeros((40, 40, 3), np.uint8))
    assert run_command(track.main, [str(tmp_path / "still.png"), "--out", str(clip)]) == 2
    assert lines_with(capsys.readouterr().err, rf"{tmp_path}/caf\xe9.mp4", "UTF-8")
    assert run_command(predict.main, [str(tmp_path / "still.png"), "--detector", str(clip)]) == 2
    assert lines_with(capsys.readouterr().err, rf"{tmp_path}/caf\xe9.mp4", "UTF-8")
