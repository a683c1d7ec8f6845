"""The competition's CSV, re-read by other means: its numbers are those of the points, in their order."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.inference.competition import competition_csv

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 70), st.just(2))
COORDINATES = st.floats(-1e5, 1e5, width=32)


def read_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.float32, SHAPES, elements=COORDINATES))
def test_re_read_it_gives_back_the_points_to_the_last_bit(points):
    rows = read_rows(competition_csv(points))
    assert [int(row["Id"]) for row in rows] == list(range(points.size))
    again = np.array([row["Predicted"] for row in rows], np.float32).reshape(points.shape)
    np.testing.assert_array_equal(again, points)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100), st.integers(0, 67), st.integers(0, 1))
def test_the_number_tells_face_point_and_axis(face, point, axis):
    points = np.zeros((101, 68, 2), np.float32)
    points[face, point, axis] = 7
    (row,) = [row for row in read_rows(competition_csv(points)) if float(row["Predicted"]) == 7]
    assert int(row["Id"]) == face * 136 + point * 2 + axis


def test_its_bytes_by_hand():
    assert competition_csv([[[1.0, 2.5]], [[1e-7, -300000.0]]]) == (
        "Id,Predicted\n0,1.0\n1,2.5\n2,0.0000001\n3,-300000.0\n"
    )
    assert competition_csv(np.zeros((0, 68, 2))) == "Id,Predicted\n"


def test_a_face_without_points_is_no_csv():
    points = np.zeros((5, 3, 2), np.float32)
    points[2:4] = np.nan
    with pytest.raises(KpdetectError, match=mentions("5", "2")):
        competition_csv(points)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 3), (4, 136), ()])
def test_points_of_another_shape(shape):
    with pytest.raises(KpdetectError, match=mentions("(N, K, 2)", str(shape))):
        competition_csv(np.zeros(shape))
