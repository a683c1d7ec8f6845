import dataclasses
from pathlib import Path

import pytest
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.results import ResultRow, append_row, read_rows, write_rows

ROW = ResultRow(
    model="compact",
    file="compact.tflite",
    dataset="synthetic",
    split="all",
    boxes="truth",
    n=10,
    missed=1,
    nme=5.25,
    nme_mirrored=None,
    nme_centred=5.0,
    nme_point_centred=4.5,
    median=5.125,
    auc8=0.5,
    fr8=12.5,
    normaliser="inter-ocular",
    parameters=1_800_000,
    macs=123,
    bytes=7_200_000,
    seed=0,
    date="2026-01-02",
)


def test_written_rows_are_read_back(tmp_path: Path) -> None:
    rows = [ROW, dataclasses.replace(ROW, nme_mirrored=6.5, boxes="haar")]
    write_rows(tmp_path / "results.csv", rows)
    assert read_rows(tmp_path / "results.csv") == rows


def test_a_new_measurement_replaces_one_of_the_same_file_and_protocol(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append_row(file, ROW)
    append_row(file, dataclasses.replace(ROW, file="compact.onnx"))
    append_row(file, dataclasses.replace(ROW, nme=4.0))
    assert [(row.file, row.nme) for row in read_rows(file)] == [("compact.onnx", 5.25), ("compact.tflite", 4.0)]


def test_a_file_without_the_column_of_the_constant_prediction_is_read(tmp_path: Path) -> None:
    row = dataclasses.replace(ROW, nme_constant=40.25)
    write_rows(tmp_path / "new.csv", [row])
    assert read_rows(tmp_path / "new.csv") == [row]
    lines = (tmp_path / "new.csv").read_text().splitlines()
    (tmp_path / "old.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert read_rows(tmp_path / "old.csv") == [ROW]


def test_another_header_is_an_error_that_names_the_columns(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("model,nme\ncompact,5\n")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "results.csv"), "model", "file", "dataset", "nme")):
        read_rows(tmp_path / "results.csv")


def test_the_row_as_text_has_every_figure_with_its_normaliser_split_and_boxes() -> None:
    text = ROW.sentence()
    for part in (
        "NME 5.25 % (inter-ocular)",
        "centred 5.00 %",
        "point-centred 4.50 %",
        "synthetic, all",
        "boxes: truth",
    ):
        assert part in text
    assert "mirrored - " in text or "mirrored -;" in text
    assert "40.25 %" in dataclasses.replace(ROW, nme_constant=40.25).sentence()
