"""The competition's CSV: its values are the keypoints, in the order of the lookup table."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import user_schema
from kpdetect.inference.competition import competition_csv
from kpdetect.inference.kaggle_submission import kaggle_submission, lookup_file_beside

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 70), st.just(2))
COORDINATES = st.floats(-1e5, 1e5, width=32)


def read_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.float32, SHAPES, elements=COORDINATES))
def test_a_round_trip_keeps_every_bit_of_the_points(points):
    rows = read_rows(competition_csv(points))
    assert [int(row["Id"]) for row in rows] == list(range(points.size))
    again = np.array([row["Predicted"] for row in rows], np.float32).reshape(points.shape)
    np.testing.assert_array_equal(again, points)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100), st.integers(0, 67), st.integers(0, 1))
def test_the_row_number_encodes_face_point_and_axis(face, point, axis):
    points = np.zeros((101, 68, 2), np.float32)
    points[face, point, axis] = 7
    (row,) = [row for row in read_rows(competition_csv(points)) if float(row["Predicted"]) == 7]
    assert int(row["Id"]) == face * 136 + point * 2 + axis


def test_the_file_equals_bytes_by_hand():
    assert competition_csv([[[1.0, 2.5]], [[1e-7, -300000.0]]]) == (
        "Id,Predicted\n0,1.0\n1,2.5\n2,0.0000001\n3,-300000.0\n"
    )
    assert competition_csv(np.zeros((0, 68, 2))) == "Id,Predicted\n"


def test_a_face_without_points_is_an_error():
    points = np.zeros((5, 3, 2), np.float32)
    points[2:4] = np.nan
    with pytest.raises(KpdetectError, match=mentions("5", "2")):
        competition_csv(points)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 3), (4, 136), ()])
def test_points_of_another_shape_are_an_error(shape):
    with pytest.raises(KpdetectError, match=mentions("(N, K, 2)", str(shape))):
        competition_csv(np.zeros(shape))


class TestKaggle:
    schema = user_schema(["nose_tip", "mouth_left_corner"])
    points = np.float32([[[10.5, 20], [30, 40.25]], [[50, 60], [70, 80]]])

    def test_the_lookup_table_selects_and_orders_rows(self, tmp_path):
        table = tmp_path / "IdLookupTable.csv"
        table.write_text("RowId,ImageId,FeatureName,Location\n1,2,mouth_left_corner_y,\n2,1,nose_tip_x,\n")
        assert lookup_file_beside(str(tmp_path / "test.csv")) == str(table)
        assert kaggle_submission(self.points, self.schema, str(table)) == "RowId,Location\n1,80.0\n2,10.5\n"

    def test_without_a_lookup_table_all_values_are_numbered(self, tmp_path):
        assert lookup_file_beside(str(tmp_path / "test.csv")) is None
        rows = read_rows(kaggle_submission(self.points, self.schema))
        assert [int(row["RowId"]) for row in rows] == list(range(1, 9))
        np.testing.assert_array_equal([float(row["Location"]) for row in rows], self.points.ravel())

    @pytest.mark.parametrize(
        ("line", "parts"),
        [("1,3,nose_tip_x", ("3", "2")), ("1,1,chin_x", ("chin_x",)), ("x,1,nose_tip_x", ("x",)), ("1,9" * 3000, ())],
    )
    def test_an_invalid_row_of_the_lookup_table_is_named(self, tmp_path, line, parts):
        table = tmp_path / "IdLookupTable.csv"
        table.write_text(f"RowId,ImageId,FeatureName\n{line}\n")
        with pytest.raises(KpdetectError, match=mentions("IdLookupTable.csv:2", *parts)):
            kaggle_submission(self.points, self.schema, str(table))

    def test_missing_points_and_wrong_shapes_are_errors(self):
        with pytest.raises(KpdetectError, match=mentions("row 2")):
            kaggle_submission([[[1, np.nan], [3, 4]]], self.schema)
        with pytest.raises(KpdetectError, match=mentions("(N, 2, 2)")):
            kaggle_submission(np.zeros((4, 2)), self.schema)
