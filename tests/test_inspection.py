"""`export --inspect`: the description of a model file, its tensors and operations, and a drawing of its points."""

import dataclasses
import re

import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import small_face_spec, small_model, small_spec

from kpdetect import export
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.images import read_image
from kpdetect.core.options import run_command
from kpdetect.core.schema import IBUG68
from kpdetect.exporters import FORMATS, Source
from kpdetect.modelfile.inspection import description, draw_points

OUTPUTS = "keypoints float32 (?, 3, 2), uncertainty float32 (?, 3)"


def flat(text: str) -> str:
    """The text without line breaks and indentation."""
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(
    ("file", "kind", "tensors"),
    [
        ("small.tflite", "TFLite", f"image float32 (?, 32, 48, 1) -> {OUTPUTS}"),
        ("small_int8.tflite", "TFLite", f"image uint8 (?, 32, 48, 1) -> {OUTPUTS}"),
        ("small.onnx", "ONNX", f"image float32 (?, 32, 48, 1) -> {OUTPUTS}"),
        ("small.keras", "Keras file", f"image float32 (?, 32, 48, 1) -> {OUTPUTS}"),
        ("saved_model", "SavedModel", f"serving_default image float32 (?, 32, 48, 1) -> {OUTPUTS}"),
        ("saved_model", "SavedModel", f"photograph boxes float32 (?, 4), photograph string () -> {OUTPUTS}"),
        (".", "bundle", f"image float32 (?, 32, 48, 1) -> {OUTPUTS}"),
    ],
)
def test_every_file_format_lists_its_tensors_and_its_spec(face_exports, file, kind, tensors) -> None:
    text = flat(description(face_exports / file))
    assert kind in text
    assert tensors in text
    for parts in (
        ("model small", "architecture compact", "recipe small"),
        ("points 3", "ibug68(3 points)"),
        ("1.35",),
        ("0.299 R + 0.587 G + 0.114 B", "0-255"),
        ("u = x * 48 - 0.5",),
        ("NME 4.50 %", "3 faces", "drawn", "val", "truth"),
    ):
        assert lines_with(text, *parts), parts


def test_operations_are_counted_also_those_not_delegated_to_xnnpack(face_exports) -> None:
    float32, int8 = (flat(description(face_exports / name)) for name in ("small.tflite", "small_int8.tflite"))
    assert re.search(r"ops \d+: ADD \d+, AVERAGE_POOL_2D 3, CONV_2D \d+", float32)
    assert "XNNPACK" in float32
    assert "QUANTIZE" not in float32
    assert "CAST" not in float32
    assert "QUANTIZE 1" in int8
    assert re.search(r"\b1\d\d\b[^:]*\bsynthetic\b", int8)
    assert re.search(r"XNNPACK.*\bCAST 1\b", int8)
    assert re.search(r"ops \d+: Add \d+", flat(description(face_exports / "small.onnx")))


def test_a_bundle_lists_its_files_with_their_differences_from_keras(face_exports) -> None:
    text = flat(description(face_exports))
    assert re.search(r"small_int8\.tflite: \d+ bytes,[^:]* [\d.e-]+ px[^:]* [\d.e-]+", text)
    assert re.search(r"model\.weights\.h5: \d+ bytes file", text)


def test_groups_are_printed_as_ranges(tmp_path) -> None:
    spec = dataclasses.replace(small_face_spec(), schema=IBUG68, face_score={"middle": -3.0, "slope": 5.0})
    path = tmp_path / "a.keras"
    FORMATS["keras"]["none"].write(Source(small_model(spec), spec), path)
    text = flat(description(path))
    assert lines_with(text, "68", "ibug68", "jaw 0-16", "brows 17-26")
    assert lines_with(text, "middle", "-3", "slope", "5")


@pytest.mark.parametrize("architecture", ["compact", "imm-nose"])
def test_points_are_drawn_where_the_file_predicts_them(tmp_path, architecture) -> None:
    spec = small_spec(architecture)
    if architecture == "imm-nose":
        spec = dataclasses.replace(spec, crop=CropRule(spec.crop.size_hw, 1.0, around="image"))
    FORMATS["keras"]["none"].write(Source(small_model(spec), spec), tmp_path / "a.keras")
    draw_points(tmp_path / "a.keras", tmp_path / "points.png")
    assert np.ptp(read_image(tmp_path / "points.png")) > 100


def test_the_command_prints_the_description_and_draws(face_exports, tmp_path, capsys) -> None:
    target = tmp_path / "points.png"
    assert export.main(["--inspect", str(face_exports / "small.tflite"), "--draw", str(target)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{face_exports / 'small.tflite'}: TFLite, ")
    assert out.endswith(f"{target}\n")
    assert max(map(len, out.splitlines()[1:-1])) <= 110
    assert target.is_file()


def test_files_that_cannot_be_inspected_are_one_line_errors(tmp_path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    for path in (tmp_path / "notes.txt", tmp_path / "absent"):
        assert run_command(export.main, [f"--inspect={path}"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"kpdetect: {path}: ")
        assert len(err.splitlines()) == 1


def test_a_damaged_file_is_a_one_line_error(face_exports, tmp_path, capsys) -> None:
    content = (face_exports / "small.tflite").read_bytes()
    start = content.rindex(b"PK\x03\x04")
    (tmp_path / "cut.tflite").write_bytes(content[:200] + bytes(start - 200) + content[start:])
    assert run_command(export.main, ["--inspect", str(tmp_path / "cut.tflite")]) == 2
    assert lines_with(capsys.readouterr().err.splitlines()[-1], str(tmp_path / "cut.tflite"))


def test_an_unwritable_picture_is_an_error_before_the_model_runs(face_exports, tmp_path) -> None:
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "points.nothing"))):
        draw_points(face_exports / "small.tflite", tmp_path / "points.nothing")
