"""Pictures: what is drawn stands where it should, and files are whole."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kpdetect import visualization
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.images import read_image
from kpdetect.core.schema import user_schema
from kpdetect.detection import Face

SCHEMA = user_schema(["left", "right"])


def face(box: list[float], points: list[list[float]]) -> Face:
    return Face(np.float32(box), np.float32(points), SCHEMA)


def center_of(mask: np.ndarray) -> list[float]:
    return [float(axis.mean()) for axis in np.nonzero(mask)[::-1]]


class TestFaces:
    def test_points_stand_where_they_are(self):
        photo = np.full((200, 300, 3), 90, np.uint8)
        drawn = visualization.draw_faces(photo, [face([20, 20, 180, 180], [[60, 50], [120, 130]])])
        green = (drawn == visualization.POINT_RGB).all(axis=2)
        np.testing.assert_allclose(center_of(green[:, :90]), [60, 50], atol=0.3)
        assert green[130, 120]

    def test_the_box_is_drawn_on_its_sides_alone(self):
        drawn = visualization.draw_faces(
            np.zeros((100, 100, 3), np.uint8), [face([10, 20, 90, 80], [[50, 50], [50, 50]])]
        )
        yellow = (np.abs(drawn - np.float32(visualization.BOX_RGB)) < 30).all(
            axis=2
        )  # an antialiased line is a little fainter
        assert yellow[20, 15:85].all()
        assert yellow[25:75, 90].all()
        assert not yellow[30:70, 20:80].any()

    def test_marks_grow_with_the_face(self):
        photo = np.zeros((1000, 1000, 3), np.uint8)
        points = [[500, 500], [500, 500]]
        inked = [
            int(
                (
                    visualization.draw_faces(photo, [face([500 - r, 500 - r, 500 + r, 500 + r], points)])[
                        490:511, 490:511
                    ]
                    > 0
                ).sum()
            )
            for r in (40, 200, 480)
        ]
        assert inked[0] < inked[1] < inked[2]

    def test_the_photograph_is_left_alone(self):
        photo = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
        before = photo.copy()
        drawn = visualization.draw_faces(photo, [face([5, 5, 40, 40], [[9, 9], [20, 20]])])
        np.testing.assert_array_equal(photo, before)
        assert (drawn != photo).any()
        np.testing.assert_array_equal(visualization.draw_faces(photo, []), photo)

    def test_what_lies_outside_shows_nothing(self):
        photo = np.zeros((50, 50, 3), np.uint8)
        far = face([1e9, 1e9, 1e9 + 1e5, 1e9 + 1e5], [[1e12, -1e12], [-1e12, 5]])
        assert not visualization.draw_faces(photo, [far]).any()
        assert visualization.draw_faces(photo, [face([-20, -20, 30, 30], [[-5, 5], [49, 49]])]).any()


class TestReports:
    def test_each_picture_is_written_whole(self, tmp_path):
        random = np.random.default_rng(0)
        crops = random.integers(0, 255, (7, 32, 48, 1), np.uint8)
        points = random.uniform(0, 32, (7, 5, 2))
        points[0, 0] = np.nan
        visualization.learning_curves(
            {"loss": [5.0, 0.1], "val_loss": [4.0, np.nan], "learning_rate": [1, 2]}, tmp_path / "l.png"
        )
        visualization.prediction_sheet(
            crops, points, points + 1, random.uniform(0, 0.1, 7), tmp_path / "deep" / "s.png"
        )
        visualization.prediction_sheet(crops[:1].repeat(3, axis=3), points[:1], points[:1], [0.1], tmp_path / "one.png")
        stair = ([0.0, 0.01, 0.01, 0.2], [0.0, 0.0, 0.5, 1.0])
        visualization.cumulative_error_curves({"plain": stair, "mirrored": ([0], [1])}, tmp_path / "c.png", mark=0.08)
        visualization.box_jitter_curve(
            {"shift": [(0, 0.05), (0.1, 0.07)], "scale": [(-0.1, 0.06), (0, 0.05)]}, tmp_path / "b.png"
        )
        files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
        assert [file.name for file in files] == ["b.png", "c.png", "s.png", "l.png", "one.png"]
        for file in files:
            assert min(read_image(file).shape[:2]) > 100

    def test_the_sheet_shows_truth_and_prediction_in_place(self, tmp_path):
        crops, points = np.full((1, 40, 40, 3), (0, 0, 99), np.uint8), np.full((1, 1, 2), 10.0)
        visualization.prediction_sheet(crops, points, points + 20, [0.1], tmp_path / "s.png")
        picture = read_image(tmp_path / "s.png").astype(int)
        green = center_of((picture[..., 1] > 180) & (picture[..., 0] < 90))
        pink = center_of((picture[..., 0] > 200) & (picture[..., 1] < 120))
        crop = np.nonzero((picture == (0, 0, 99)).all(axis=2))
        left, right, top, bottom = crop[1].min(), crop[1].max(), crop[0].min(), crop[0].max()
        for (x, y), pixel in ((green, 10), (pink, 30)):
            assert abs((x - left) / (right - left) - (pixel + 0.5) / 40) < 0.03
            assert abs((y - top) / (bottom - top) - (pixel + 0.5) / 40) < 0.03

    def test_no_global_state_and_no_screen(self, tmp_path, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        before = "matplotlib.pyplot" in sys.modules
        visualization.box_jitter_curve({"shift": [(0, 0.05)]}, tmp_path / "b.png")
        assert ("matplotlib.pyplot" in sys.modules) == before

    def test_nothing_to_draw_is_an_error_and_leaves_nothing(self, tmp_path):
        none = np.zeros((0, 8, 8, 1), np.uint8)
        with pytest.raises(KpdetectError, match="expected crops with truth"):
            visualization.prediction_sheet(none, none[..., :2, 0], none[..., :2, 0], [], tmp_path / "s.png")
        with pytest.raises(KpdetectError, match="at least one value"):
            visualization.learning_curves({}, tmp_path / "l.png")
        with pytest.raises(KpdetectError, match="cumulative error curve"):
            visualization.cumulative_error_curves({}, tmp_path / "c.png")
        with pytest.raises(KpdetectError, match="weird"):
            visualization.box_jitter_curve({"shift": [(0, 0.05)]}, tmp_path / "b.weird")
        assert not list(Path(tmp_path).iterdir())

    def test_without_matplotlib_the_install_line_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(MissingExtra, match=r"kpdetect\[train\]"):
            visualization.box_jitter_curve({"shift": [(0, 0.05)]}, tmp_path / "b.png")
