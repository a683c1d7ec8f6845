"""Drawings of faces and curves: positions, sizes, colours and complete files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from messages import mentions

from kpdetect import visualization
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.images import read_image
from kpdetect.core.schema import IBUG68, IMM58, user_schema
from kpdetect.data import synthetic
from kpdetect.detection import Face
from kpdetect.visualization import curves

SCHEMA = user_schema(["left", "right"])


def face(box: list[float], points: list[list[float]]) -> Face:
    return Face(np.float32(points), SCHEMA, detection_box=np.float32(box))


def center_of(mask: np.ndarray) -> list[float]:
    return [float(axis.mean()) for axis in np.nonzero(mask)[::-1]]


class TestFaces:
    def test_points_are_drawn_at_their_positions(self):
        photo = np.full((600, 900, 3), 90, np.uint8)
        drawn = visualization.draw_faces(photo, [face([0, 0, 9, 9], [[60, 50], [460, 450]])], boxes=False)
        green = (drawn == visualization.POINT_RGB).all(axis=2)
        np.testing.assert_allclose(center_of(green[:, :90]), [60, 50], atol=0.3)
        np.testing.assert_allclose(center_of(green[400:]), [460, 50], atol=0.3)

    def test_hidden_points_are_rings(self):
        photo = np.full((600, 900, 3), 90, np.uint8)
        points = np.float32([[100, 50], [700, 450]])
        half_seen = Face(points, SCHEMA, visibility=np.float32([0.9, 0.1]))
        drawn = visualization.draw_faces(photo, [half_seen], boxes=False, contours=False, point_size=0.05)
        assert (drawn[50, 100] == visualization.POINT_RGB).all()
        assert (drawn[450, 700] == 90).all()
        ring = (drawn[400:500, 650:750] == visualization.POINT_RGB).all(axis=2)
        np.testing.assert_allclose(center_of(ring), [50, 50], atol=0.5)

    def test_the_box_is_the_tight_box_of_the_points(self):
        photo = np.zeros((100, 100, 3), np.uint8)
        drawn = visualization.draw_faces(photo, [face([0, 0, 5, 5], [[10, 20], [90, 80]])], points=False)
        # An antialiased line is a little darker than its colour.
        yellow = (np.abs(drawn - np.float32(visualization.BOX_RGB)) < 40).all(axis=2)
        assert yellow[20, 15:85].all()
        assert yellow[25:75, 90].all()
        assert not drawn[24:76, 14:86].any()
        assert not drawn[:16].any()

    def test_a_single_point_shows_the_box_of_the_face(self):
        single = Face(np.float32([[50, 50]]), user_schema(["nose"]), detection_box=np.float32([10, 20, 90, 80]))
        drawn = visualization.draw_faces(np.zeros((100, 100, 3), np.uint8), [single])
        assert drawn[20, 50].any()
        assert drawn[50, 50].any()

    @pytest.mark.parametrize("side", [25, 80, 300, 900])
    def test_point_sizes_scale_with_the_face(self, side):
        photo = np.full((1000, 1000, 3), 128, np.uint8)
        marked = [face([0, 0, 9, 9], [[20, 20], [20 + side, 20 + side]])]
        drawn = visualization.draw_faces(photo, marked, boxes=False)
        changed = (drawn != photo).any(axis=2)[: 20 + side // 2]
        extent = max(np.ptp(places) + 1 for places in np.nonzero(changed))
        assert extent <= 0.015 * side + 2  # an antialiased disc covers one more pixel on each side
        opaque = visualization.draw_faces(0 * photo, marked, boxes=False)[..., 1].sum() / (2 * 255)
        assert opaque <= 1.1 * np.pi / 4 * (0.015 * side) ** 2

    def test_contours_connect_neighbours_below_the_points(self):
        points = 20 + 400 * synthetic.render(seed=1, index=0, size=100)[1] / 100
        marked = Face(points.astype(np.float32), IBUG68)
        photo = np.zeros((440, 440, 3), np.uint8)
        lines = visualization.draw_faces(photo, [marked], points=False, boxes=False)
        for start, end in visualization.contour_edges(IBUG68):
            x, y = np.rint((points[start] + points[end]) / 2).astype(int)
            assert lines[y - 1 : y + 2, x - 1 : x + 2].any()
        assert not visualization.draw_faces(photo, [marked], points=False, boxes=False, contours=False).any()
        both = visualization.draw_faces(photo, [marked], boxes=False)
        x, y = np.rint(points[8]).astype(int)
        assert (both[y, x] == visualization.POINT_RGB).all()

    def test_points_of_unknown_schemes_have_no_contours(self):
        photo, own = np.zeros((90, 90, 3), np.uint8), [face([9, 9, 80, 80], [[9, 9], [80, 80]])]
        with_lines = visualization.draw_faces(photo, own)
        np.testing.assert_array_equal(with_lines, visualization.draw_faces(photo, own, contours=False))

    def test_the_edges_of_a_scheme_are_drawn(self):
        photo = np.zeros((100, 100, 3), np.uint8)
        points = np.float32([[20, 20], [80, 20], [50, 80]])
        skeleton = user_schema(["left_eye", "right_eye", "nose"], edges=[(0, 2), (1, 2)])
        drawn = visualization.draw_faces(photo, [Face(points, skeleton)], points=False, boxes=False)
        for (x0, y0), (x1, y1) in ((points[0], points[2]), (points[1], points[2])):
            assert drawn[round((y0 + y1) / 2), round((x0 + x1) / 2)].any()
        assert not drawn[20, 50].any()  # the eyes are not connected
        part = skeleton.subset(["nose", "left_eye"])
        assert visualization.contour_edges(part) == ((1, 0),)
        assert visualization.draw_faces(photo, [Face(points[[2, 0]], part)], points=False, boxes=False).any()

    def test_colours_and_sizes_are_options(self):
        photo, own = np.zeros((500, 500, 3), np.uint8), [face([0, 0, 9, 9], [[50, 50], [450, 450]])]
        red = visualization.draw_faces(photo, own, point_rgb=(255, 0, 0), box_rgb=(0, 0, 255), point_size=0.05)
        assert red[50, 50].tolist() == [255, 0, 0]
        assert red[50, 250].tolist() == [0, 0, 255]
        assert red[50, 56].tolist() == [255, 0, 0]
        for wrong in ({"point_size": 0.0}, {"line_width": 0.2}, {"point_size": float("nan")}):
            with pytest.raises(KpdetectError, match=next(iter(wrong))):
                visualization.draw_faces(photo, own, **wrong)

    def test_the_photograph_is_not_modified(self):
        photo = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
        before = photo.copy()
        drawn = visualization.draw_faces(photo, [face([5, 5, 40, 40], [[9, 9], [20, 20]])])
        np.testing.assert_array_equal(photo, before)
        assert (drawn != photo).any()
        np.testing.assert_array_equal(visualization.draw_faces(photo, []), photo)

    def test_faces_outside_or_not_finite_are_not_drawn(self):
        photo = np.zeros((50, 50, 3), np.uint8)
        far = face([1e9, 1e9, 1e9 + 1e5, 1e9 + 1e5], [[1e12, -1e12], [1e12 + 1e8, -1e13]])
        nowhere = face([5, 5, 40, 40], [[np.nan, 9], [20, 20]])
        assert not visualization.draw_faces(photo, [far, nowhere]).any()
        assert visualization.draw_faces(photo, [face([-20, -20, 30, 30], [[-5, 5], [49, 49]])]).any()


class TestContours:
    @pytest.mark.parametrize(("schema", "count"), [(IBUG68, 63), (IMM58, 54)])
    def test_a_mirrored_face_has_the_same_contours(self, schema, count):
        edges, swap = visualization.contour_edges(schema), schema.flip_permutation
        assert len(edges) == count
        assert {frozenset((swap[a], swap[b])) for a, b in edges} == {frozenset(edge) for edge in edges}

    def test_contours_do_not_connect_different_parts(self):
        for schema in (IBUG68, IMM58):
            parts = [set(part) for part in schema.groups.values()]
            assert all(any({*edge} <= part for part in parts) for edge in visualization.contour_edges(schema))

    def test_a_subset_keeps_the_edges_between_its_points(self):
        names = IBUG68.point_names[:3] + IBUG68.point_names[4:6]
        assert visualization.contour_edges(IBUG68.subset(names)) == ((0, 1), (1, 2), (3, 4))
        assert visualization.contour_edges(SCHEMA) == ()


class TestReports:
    def test_each_picture_is_written_completely(self, tmp_path):
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

    def test_the_sheet_shows_labels_and_predictions_at_their_positions(self, tmp_path):
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

    def test_the_sheet_draws_contours_of_a_known_scheme(self, tmp_path):
        points = synthetic.render(seed=1, index=0, size=64)[1][None]
        crops, moved = np.zeros((1, 64, 64, 1), np.uint8), points + 8
        for name, schema in (("points.png", None), ("contours.png", IBUG68)):
            visualization.prediction_sheet(crops, points, moved, [0.1], tmp_path / name, schema=schema)
        pictures = [read_image(tmp_path / name).astype(int) for name in ("points.png", "contours.png")]
        green = [int((picture[..., 1] - picture[..., 0] > 60).sum()) for picture in pictures]
        assert green[1] > 1.3 * green[0] > 0

    @pytest.mark.parametrize("epochs", [1, 2, 3, 8, 101])
    def test_epoch_ticks_are_integers_and_the_legend_covers_no_panel(self, epochs, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(curves, "save_figure", lambda figure, path: figures.append(figure))
        values = np.linspace(2, 1, epochs)
        visualization.learning_curves({"loss": values, "val_loss": values + 0.1, "nme": values}, tmp_path / "l.png")
        (figure,) = figures
        figure.canvas.draw()
        (legend,) = figure.legends
        for axis in figure.axes:
            assert all(tick == round(tick) for tick in axis.get_xticks())
            assert not legend.get_window_extent().overlaps(axis.get_window_extent())
        assert figure.axes[1].lines[0].get_ydata()[0] == pytest.approx(200)  # percent

    def test_the_box_jitter_curve_shows_its_largest_error(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(curves, "save_figure", lambda figure, path: figures.append(figure))
        visualization.box_jitter_curve({"shift": [(0, 0.05), (0.2, 0.09)]}, tmp_path / "b.png")
        low, high = figures[0].axes[0].get_ylim()
        assert (low, high) == (0, pytest.approx(9.72))

    def test_no_global_state_and_no_display(self, tmp_path, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        before = "matplotlib.pyplot" in sys.modules
        visualization.box_jitter_curve({"shift": [(0, 0.05)]}, tmp_path / "b.png")
        assert ("matplotlib.pyplot" in sys.modules) == before

    def test_nothing_to_draw_is_an_error_and_writes_nothing(self, tmp_path):
        none = np.zeros((0, 8, 8, 1), np.uint8)
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "s.png"))):
            visualization.prediction_sheet(none, none[..., :2, 0], none[..., :2, 0], [], tmp_path / "s.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "l.png"))):
            visualization.learning_curves({}, tmp_path / "l.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "c.png"))):
            visualization.cumulative_error_curves({}, tmp_path / "c.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "b.weird"))):
            visualization.box_jitter_curve({"shift": [(0, 0.05)]}, tmp_path / "b.weird")
        assert not list(Path(tmp_path).iterdir())

    def test_without_matplotlib_the_install_command_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(MissingExtra, match=mentions("pip install", "[train]")):
            visualization.box_jitter_curve({"shift": [(0, 0.05)]}, tmp_path / "b.png")
