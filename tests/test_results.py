import dataclasses
from pathlib import Path

import pytest

from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.results import ResultRow, append_row, markdown_table, read_rows, with_table, write_rows

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


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    rows = [ROW, dataclasses.replace(ROW, nme_mirrored=6.5, boxes="haar")]
    write_rows(tmp_path / "results.csv", rows)
    assert read_rows(tmp_path / "results.csv") == rows


def test_a_new_measurement_replaces_the_old_one_of_the_same_file_and_protocol(tmp_path: Path) -> None:
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
    with pytest.raises(KpdetectError, match="expected the columns model,file,dataset"):
        read_rows(tmp_path / "results.csv")


def test_every_figure_of_the_table_stands_beside_its_normaliser_split_and_boxes() -> None:
    line = markdown_table([ROW]).splitlines()[-1]
    assert "5.25 / - / 5.00 / 4.50 % inter-ocular" in line
    assert "synthetic, all, truth" in line
    assert "| - |" in line
    assert "| 40.25 % |" in markdown_table([dataclasses.replace(ROW, nme_constant=40.25)])


def test_a_page_without_marks_is_an_error() -> None:
    with pytest.raises(KpdetectError, match="no marks"):
        with_table("no table here", [ROW])
