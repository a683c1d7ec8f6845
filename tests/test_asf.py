"""Tests of the reader of the IMM Face Database: coordinates, file names and errors with lines."""

from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import tight_box, to_relative
from kpdetect.core.images import write_image
from kpdetect.core.schema import IMM58
from kpdetect.data import load, read_imm

HEAD = ["# AAM Shape File", "", "# number of model points", "58", "", "# path type x y point from to"]
FIRST = len(HEAD) + 1  # the line of the first point
SIZE_HW = (48, 64)


def points(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (58, 2))


def lines_of(relative: np.ndarray, extra: str = "") -> list[str]:
    rows = [f"0 \t4 \t{x:.8f} \t{y:.8f} \t{index} \t0 \t1{extra}" for index, (x, y) in enumerate(relative)]
    return [*HEAD, *rows, "", "# host image", "99-1m.bmp"]


def put(folder: Path, name: str, lines: list[str] | None = None, suffix: str = ".jpg") -> Path:
    write_image(folder / f"{name}{suffix}", np.zeros((*SIZE_HW, 3), np.uint8))
    file = folder / f"{name}.asf"
    file.write_text("\n".join(lines or lines_of(points())) + "\n", encoding="utf-8")
    return file


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_imm(str(folder))
    return [problem.removeprefix(str(folder)).removeprefix("/") for problem in caught.value.problems]


def test_written_files_are_read_back(tmp_path):
    put(tmp_path, "07-3f")
    put(tmp_path, "40-6m", lines_of(points(1), extra="\t0.00\t0.00\t0.00"), suffix=".PNG")
    faces = read_imm(str(tmp_path))
    assert faces.schema == IMM58
    assert faces.subjects.tolist() == ["07", "40"]
    assert [Path(path).name for path in faces.paths] == ["07-3f.jpg", "40-6m.PNG"]
    np.testing.assert_allclose(to_relative(faces.keypoints, SIZE_HW), [points(), points(1)], atol=1e-6)
    np.testing.assert_array_equal(faces.boxes, tight_box(faces.keypoints))
    assert faces.visible.all()
    assert "research" in faces.terms


def test_coordinates_0_and_1_are_the_image_borders(tmp_path):
    relative = points()
    relative[:2] = [[0, 0], [1, 1]]
    put(tmp_path, "01-1m", lines_of(relative))
    assert read_imm(str(tmp_path)).keypoints[0, :2].tolist() == [[-0.5, -0.5], [63.5, 47.5]]


def test_all_240_file_names_are_parsed_and_split_by_person(tmp_path):
    picture = tmp_path / "one.png"
    write_image(picture, np.zeros((*SIZE_HW, 3), np.uint8))
    text = "\n".join(lines_of(points()))
    for person in range(1, 41):
        for view in range(1, 7):
            stem = f"{person:02d}-{view}{'fm'[person % 2]}"
            (tmp_path / f"{stem}.asf").write_text(text, encoding="utf-8")
            (tmp_path / f"{stem}.png").symlink_to(picture)
    faces, train, val = (load(f"{kind}:{tmp_path}") for kind in ("imm", "imm-train", "imm-val"))
    assert (len(faces), len(train), len(val)) == (240, 192, 48)
    assert sorted(set(train.subjects.tolist())) == [f"{person:02d}" for person in range(1, 33)]
    assert sorted(set(val.subjects.tolist())) == [f"{person:02d}" for person in range(33, 41)]
    assert len({faces.name, train.name, val.name}) == 3


@pytest.mark.parametrize("name", ["00-1m", "41-1m", "07-7m", "07-1x", "7-1m", "face"])
def test_invalid_file_names_are_errors(tmp_path, name):
    put(tmp_path, "01-1m")
    put(tmp_path, name)
    (found,) = problems_of(tmp_path)
    assert found.startswith(f"{name}.asf: ")
    assert "07-3f.asf" in found
    assert read_imm(str(tmp_path), skip_bad_rows=True).skipped == 1


def changed(line: int, text: str | None) -> list[str]:
    """The lines of a valid file with one of them (counted from 1) replaced or removed."""
    lines = lines_of(points())
    lines[line - 1 : line] = [] if text is None else [text]
    return lines


@pytest.mark.parametrize(
    ("lines", "place", "parts"),
    [
        (changed(4, "57"), ":4:", ("58", "imm58", "57")),
        (changed(4, "many"), ":4:", ("58", "imm58", "many")),
        (changed(FIRST + 57, None), f":{FIRST + 56}:", ("58", "imm58", "57")),
        (changed(FIRST, "0 4 .5 .5 0 0 1\n" * 2), ":", ("58", "imm58", "59")),
        (changed(FIRST, "0 4 .5 .5 0 0"), f":{FIRST}:", ("7", "6")),
        (changed(FIRST, "0 4 .5 .5 1 0 1"), f":{FIRST}:", ("0", "1")),
        (changed(FIRST, "0 4 nan .5 0 0 1"), f":{FIRST}:", ("nan .5",)),
        (changed(FIRST, "0 4 .5 x 0 0 1"), f":{FIRST}:", (".5 x",)),
        (changed(FIRST, "0 4 320 99 0 0 1"), f":{FIRST}:", ("0", "1", "320")),
        (["# nothing"], ":", ("58",)),
        (["58"], ":1:", ("58", "imm58", "0")),
        (lines_of(np.full((58, 2), 0.5)), ":", ("02-1m.asf",)),
    ],
)
def test_an_error_names_the_file_and_line_and_the_file_can_be_skipped(tmp_path, lines, place, parts):
    put(tmp_path, "01-1m")
    put(tmp_path, "02-1m", lines)
    (found,) = problems_of(tmp_path)
    assert found.startswith(f"02-1m.asf{place}")
    assert lines_with(found, *parts)
    faces = read_imm(str(tmp_path), skip_bad_rows=True)
    assert (len(faces), faces.skipped) == (1, 1)


def test_all_errors_are_reported_together_also_several_per_file(tmp_path):
    lines = lines_of(points())
    lines[FIRST + 3] = lines[FIRST + 3].replace("\t4 ", "\t5 ", 1).replace("0.", "x.", 1)
    lines[FIRST + 9] = "short line"
    put(tmp_path, "01-1m", lines)
    (tmp_path / "02-1m.asf").write_text("\n".join(lines_of(points())))
    (tmp_path / "03-1m.jpg").write_text("no image")
    (tmp_path / "03-1m.asf").write_text("\n".join(lines_of(points())))
    found = problems_of(tmp_path)
    assert [problem.split(": ")[0] for problem in found] == [
        f"01-1m.asf:{FIRST + 4}",
        f"01-1m.asf:{FIRST + 10}",
        "02-1m.asf",
        "03-1m.asf",
    ]
    assert "02-1m.jpg" in found[2]
    assert "8 bytes" in found[3]


def test_folders_without_asf_files_are_errors(tmp_path):
    for place in (tmp_path / "gone", tmp_path):
        with pytest.raises(KpdetectError, match=mentions(str(place), ".asf")):
            read_imm(str(place))
    file = put(tmp_path, "01-1m")
    with pytest.raises(KpdetectError, match=mentions(str(file))):
        read_imm(str(file))
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path), "1", "33", "40")):
        read_imm(str(tmp_path), "val")
    with pytest.raises(KpdetectError, match=mentions("all", "train", "val", "test")):
        read_imm(str(tmp_path), "test")
    with pytest.raises(KpdetectError, match=mentions("imm:DIR")):
        load("imm")


def test_the_published_data_set(shared_data):
    folder = shared_data / "imm_face_db"
    faces, train, val = (load(f"{kind}:{folder}") for kind in ("imm", "imm-train", "imm-val"))
    assert (len(faces), len(train), len(val)) == (37, 29, 8)
    assert faces.subjects.tolist() == [f"{person:02d}" for person in range(4, 41)]
    height, width = faces.read(str(faces.paths[0])).shape[:2]
    assert (faces.keypoints > 0).all()
    assert (faces.keypoints < (width, height)).all()
    # Frontal faces are upright: the nose tip is below and between the eyes, and above the mouth.
    nose = faces.select(["nose_tip"]).keypoints[:, 0]
    right, left = faces.keypoints[:, IMM58.index("right_eye_outer")], faces.keypoints[:, IMM58.index("left_eye_outer")]
    assert ((right[:, 0] < nose[:, 0]) & (nose[:, 0] < left[:, 0])).all()
    assert (nose[:, 1] > np.maximum(right, left)[:, 1]).all()
    assert (nose[:, 1] < faces.keypoints[:, IMM58.index("upper_lip_top"), 1]).all()
