"""`Face`, boxes, weighted non-maximum suppression and the Haar detector."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import mentions

from kpdetect import draw_faces, faces_to_supervision, head_transform
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import intersection_over_union
from kpdetect.core.images import read_image
from kpdetect.core.schema import IBUG68, user_schema
from kpdetect.data import read_youtube_faces
from kpdetect.data.synthetic import render
from kpdetect.detection import (
    CASCADES,
    Cascade,
    Face,
    HaarDetector,
    haar,
    largest_first,
    weighted_non_maximum_suppression,
)
from kpdetect.detection import boxes as face_boxes
from kpdetect.detection.face import FACE_JSON_SCHEMA
from kpdetect.visualization import contour_edges

number = st.floats(0, 300, width=32)
boxes = st.lists(
    st.tuples(number, number, st.floats(5, 200, width=32), st.floats(5, 200, width=32)), min_size=1, max_size=12
).map(lambda rows: np.float32([[x, y, x + w, y + h] for x, y, w, h in rows]))
quick = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def detector(cascades) -> HaarDetector:
    return HaarDetector()


def face() -> Face:
    return Face(np.arange(136, dtype=np.float32).reshape(68, 2), IBUG68, 0.5)


class TestFace:
    def test_groups_and_points_are_looked_up_by_name(self):
        np.testing.assert_array_equal(face()["left_eye"], face().keypoints[42:48])
        np.testing.assert_array_equal(face().point("nose_tip"), [60, 61])

    def test_unknown_names_are_errors(self):
        with pytest.raises(KpdetectError, match=mentions("left_eie", "left_eye")):
            face()["left_eie"]
        with pytest.raises(KpdetectError, match=mentions("snout")):
            face().point("snout")

    def test_to_dict_is_complete(self):
        report = face().to_dict()
        assert (report["box"], report["detection_box"]) == ([0, 1, 134, 135], None)
        assert report["score"] == 0.5
        assert dict(zip(report["names"], report["keypoints"], strict=True))["nose_tip"] == [60, 61]

    def test_score_and_uncertainty_are_none_if_the_model_has_none(self):
        assert (face().uncertainty, face().to_dict()["uncertainty"]) == (None, None)
        plain = Face(np.zeros((1, 2), np.float32), user_schema(["a"]))
        assert (plain.score, plain.to_dict()["score"]) == (None, None)

    def test_uncertainties_are_in_the_order_of_the_points(self):
        errors_px = np.linspace(0, 6.7, 68, dtype=np.float32)
        report = dataclasses.replace(face(), score=0.98765, uncertainty=errors_px).to_dict()
        assert dict(zip(report["names"], report["uncertainty"], strict=True))["nose_tip"] == 3.0
        assert report["score"] == 0.9877
        assert json.loads(json.dumps(report)) == report

    def test_the_box_is_the_tight_box_of_the_points(self):
        one = dataclasses.replace(face(), detection_box=np.float32([5, 5, 9, 9]))
        moved = dataclasses.replace(one, keypoints=one.keypoints + np.float32([10, 0]))
        assert (one.box.tolist(), moved.box.tolist()) == ([0, 1, 134, 135], [10, 1, 144, 135])
        assert moved.detection_box is not None
        assert moved.detection_box.tolist() == [5, 5, 9, 9]
        assert one.box.dtype == np.float32

    def test_str_is_three_lines_and_repr_is_one(self):
        lines = str(dataclasses.replace(face(), uncertainty=np.full(68, 1.25, np.float32))).splitlines()
        assert lines[0].split(": ")[1] == "(0.0, 1.0, 134.0, 135.0), 134.0 x 134.0 px"
        assert lines[1].split(": ")[1] == "0.50"
        assert all(part in lines[2] for part in ("68", "ibug68", "inter-ocular distance 25.5 px", "error 1.2 px"))
        assert len(lines) == 3
        assert repr(face()) == "Face(68 keypoints of 'ibug68', box=(0.0, 1.0, 134.0, 135.0), score=0.50)"

    def test_the_description_keeps_its_json_schema(self):
        jsonschema = pytest.importorskip("jsonschema", reason="comes with Ray and Jupyter, in kpdetect[test]")
        plain = Face(np.zeros((1, 2), np.float32), user_schema(["a"]))
        whole = dataclasses.replace(
            face(), uncertainty=np.full(68, 2, np.float32), detection_box=np.float32([0, 0, 9, 9])
        )
        for one in (plain, face(), whole):
            report = json.loads(json.dumps(one.to_dict()))
            jsonschema.validate(report, FACE_JSON_SCHEMA)
            assert set(report) == set(FACE_JSON_SCHEMA["properties"])
        for wrong in ({"score": 2}, {"box": [1, 2, 3]}, {"keypoints": [[1]]}, {"more": 1}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**face().to_dict(), **wrong}, FACE_JSON_SCHEMA)

    def test_confidence_by_hand(self):
        """Between eyes 100 pixels apart, an error of 8 pixels is the limit."""
        points = np.zeros((68, 2), np.float32)
        points[45] = (100, 0)
        points[:, 1] += np.arange(68) % 2  # any other place
        points[[36, 45], 1] = 0
        errors = np.full(68, 8, np.float32)
        errors[:3] = (0, 1e6, 16)
        confidence = Face(points, IBUG68, 0.5, errors).keypoint_confidence
        assert confidence is not None
        assert confidence.dtype == np.float32
        np.testing.assert_allclose(confidence[:4], [1, 0, 1 - 2 * np.exp(-1), 1 - 3 * np.exp(-2)], atol=1e-4)
        assert face().keypoint_confidence is None

    def test_confidence_is_the_share_of_errors_below_the_limit(self):
        """Of errors whose density at the distance r is exp(-2 r / m), and whose mean is m."""
        radii = np.random.default_rng(0).gamma(2, 0.5 * 5.0, 200_000)
        points = np.float32([[0, 0], [100, 0]])
        schema = dataclasses.replace(user_schema(["left", "right"]), normalizer_points=(0, 1))
        confidence = Face(points, schema, uncertainty=np.full(2, 5, np.float32)).keypoint_confidence
        assert radii.mean() == pytest.approx(5, rel=0.01)
        assert confidence is not None
        assert confidence[0] == pytest.approx((radii <= 8).mean(), abs=0.005)

    def test_the_confidence_of_a_single_point_needs_the_box(self):
        point, schema, error = np.zeros((1, 2), np.float32), user_schema(["nose"]), np.float32([8])
        assert Face(point, schema, uncertainty=error).keypoint_confidence is None
        boxed = Face(point, schema, uncertainty=error, detection_box=np.float32([0, 0, 100, 50]))
        np.testing.assert_allclose(boxed.keypoint_confidence, 1 - 3 * np.exp(-2), atol=1e-4)

    def test_a_crop_is_the_part_of_the_photograph_around_the_box(self):
        photo = np.arange(60 * 80 * 3, dtype=np.uint16).reshape(60, 80, 3).astype(np.uint8)
        one = Face(np.float32([[20, 10], [39, 29]]), user_schema(["a", "b"]))
        np.testing.assert_array_equal(one.crop(photo, margin=1), photo[10:30, 20:40])
        np.testing.assert_array_equal(one.crop(photo, margin=2), photo[0:40, 10:50])
        np.testing.assert_array_equal(one.crop(photo, margin=99), photo)
        assert not np.shares_memory(one.crop(photo), photo)
        with pytest.raises(KpdetectError, match=mentions("80 x 60")):
            dataclasses.replace(one, keypoints=one.keypoints + 500).crop(photo)
        with pytest.raises(KpdetectError, match=mentions("0")):
            one.crop(photo, margin=0)

    def test_plots_and_poses_are_those_of_the_functions(self):
        pixels, points = render(0, 0, 128)
        one = Face(points.astype(np.float32), IBUG68)
        np.testing.assert_array_equal(one.plot(pixels, boxes=False), draw_faces(pixels, [one], boxes=False))
        np.testing.assert_array_equal(one.transform_matrix(), head_transform(one).matrix)
        assert one.transform_matrix().shape == (4, 4)

    def test_supervision_gets_points_confidence_and_visibility(self):
        sv = pytest.importorskip("supervision", reason='pip install "kpdetect[test]"')
        errors = np.ones(68, np.float32)
        errors[5] = 1e6
        first = dataclasses.replace(face(), uncertainty=errors)
        second = dataclasses.replace(first, keypoints=first.keypoints + 9, score=0.75)
        key_points = faces_to_supervision([first, second])
        np.testing.assert_array_equal(key_points.xy, [first.keypoints, second.keypoints])
        np.testing.assert_array_equal(key_points.keypoint_confidence[0], first.keypoint_confidence)
        np.testing.assert_allclose(key_points.detection_confidence, [0.5, 0.75])
        assert np.flatnonzero(~key_points.visible[0]).tolist() == [5]
        edges = [(start + 1, end + 1) for start, end in contour_edges(IBUG68)]
        drawn = sv.EdgeAnnotator(edges=edges).annotate(np.zeros((200, 200, 3), np.uint8), key_points)
        assert drawn.any()
        alone = face().to_supervision()
        assert (alone.keypoint_confidence, alone.visible.all()) == (None, True)
        assert len(faces_to_supervision([])) == 0
        other = Face(np.zeros((1, 2), np.float32), user_schema(["a"]))
        with pytest.raises(KpdetectError, match=mentions("ibug68", "user")):
            faces_to_supervision([first, other])

    def test_without_supervision_the_error_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "supervision", None)
        with pytest.raises(KpdetectError, match=mentions("pip install", "supervision")):
            face().to_supervision()

    def test_wrong_shapes_are_errors(self):
        with pytest.raises(KpdetectError, match=mentions("detection box", "(4,)")):
            dataclasses.replace(face(), detection_box=np.zeros((1, 4), np.float32))
        with pytest.raises(KpdetectError, match=mentions("keypoints", "(1, 2)")):
            Face(np.zeros((2, 2), np.float32), user_schema(["a"]))
        for shape in ((1,), (68, 1), (69,), ()):
            with pytest.raises(KpdetectError, match=mentions("uncertainty", "(68,)", str(shape))):
                dataclasses.replace(face(), uncertainty=np.zeros(shape, np.float32))


class TestMerging:
    @quick
    @given(boxes, st.randoms())
    def test_merged_boxes_do_not_exceed_the_inputs_in_any_order(self, rows, random):
        votes = np.array([random.randint(1, 20) for _ in rows])
        merged, sums = weighted_non_maximum_suppression(rows, votes)
        assert 1 <= len(merged) == len(sums) <= len(rows)
        assert sums.sum() <= votes.sum()
        # A merged box is a mean, so it stays within the extremes of its inputs.
        tolerance = 1e-3
        assert (merged >= rows.min(axis=0) - tolerance).all()
        assert (merged <= rows.max(axis=0) + tolerance).all()
        order = random.sample(range(len(rows)), len(rows))
        again, again_sums = weighted_non_maximum_suppression(rows[order], votes[order])
        np.testing.assert_allclose(again, merged, rtol=1e-5)
        np.testing.assert_allclose(again_sums, sums)

    @quick
    @given(boxes)
    def test_merged_boxes_do_not_overlap(self, rows):
        merged, _ = weighted_non_maximum_suppression(rows, np.ones(len(rows)))
        overlap = intersection_over_union(merged, merged)
        np.fill_diagonal(overlap, 0)
        assert overlap.max() <= face_boxes.CONTAINED

    def test_by_hand(self):
        merged, votes = weighted_non_maximum_suppression(
            [[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [42, 2, 46, 6]], [3, 1, 2, 1]
        )
        # Two boxes of one face are averaged with weights 3 and 1; a small box within another is dropped.
        np.testing.assert_allclose(merged, [[0.25, 0, 10.25, 10], [40, 0, 50, 10]])
        assert votes.tolist() == [4, 2]

    def test_no_boxes_give_no_boxes(self):
        merged, votes = weighted_non_maximum_suppression(np.zeros((0, 4)), [])
        assert (merged.shape, votes.shape) == ((0, 4), (0,))
        assert largest_first([]).shape == (0, 4)

    def test_largest_boxes_come_first(self):
        assert largest_first([[0, 0, 1, 1], [0, 0, 3, 3], [5, 5, 7, 7]])[:, 2].tolist() == [3, 7, 1]


class TestCascade:
    def test_box_by_hand(self):
        cascade = Cascade("x.xml", (0.1, 0.2), (0.5, 0.4))
        # A square of 100 about (50, 50): the box is 50 x 40 about (60, 70).
        np.testing.assert_allclose(cascade.face_boxes([[0, 0, 100, 100]]), [[35, 50, 85, 90]])

    def test_the_two_profiles_mirror_each_other(self):
        right, left = (cascade for cascade in CASCADES if "profile" in cascade.file)
        assert (right.shift_xy[0], right.shift_xy[1]) == (-left.shift_xy[0], left.shift_xy[1])
        assert right.size_wh == left.size_wh
        assert right.mirrored != left.mirrored


class TestDetector:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 400), (200, 300), (39, 39)])
    @pytest.mark.parametrize("value", [0, 128])
    def test_uniform_images_of_any_size_have_no_face(self, detector, shape, value):
        found = detector(np.full((*shape, 3), value, np.uint8))
        assert (found.shape, found.dtype) == ((0, 4), np.float32)

    @pytest.mark.parametrize(("min_face", "min_votes"), [(0, 5), (1.5, 5), (float("nan"), 5), (0.1, 0)])
    def test_options_out_of_range_are_errors(self, min_face, min_votes):
        with pytest.raises(KpdetectError, match=mentions("min_face", str(min_face), "min_votes", str(min_votes))):
            HaarDetector(min_face, min_votes)

    def test_an_opencv_without_cascades_is_an_error_with_the_install_command(self, monkeypatch):
        monkeypatch.delattr(haar.cv2, "CascadeClassifier", raising=False)
        with pytest.raises(KpdetectError, match=r"opencv-python>=4\.10,<5"):
            HaarDetector()

    @pytest.mark.usefixtures("cascades")
    def test_votes_are_scaled_back_to_the_photograph(self, monkeypatch):
        """The fake classifier returns the whole working image, including its border."""

        class Everything:
            def detectMultiScale2(self, picture, **options):
                height, width = picture.shape
                return [(0, 0, width, height)], [7]

            def empty(self):
                return False

        monkeypatch.setattr(haar.cv2, "CascadeClassifier", lambda file: Everything())
        for width, height in ((100, 50), (800, 800), (2000, 1000)):
            for _, squares, votes in HaarDetector().squares(np.zeros((height, width, 3), np.uint8)):
                border = haar.BORDER * min(width, height)
                expected = [-border - 0.5, -border - 0.5, width + border - 0.5, height + border - 0.5]
                np.testing.assert_allclose(squares, [expected], atol=2)  # the border is whole working pixels
                assert votes.tolist() == [7]

    def test_labelled_people_are_detected(self, detector, shared_data):
        people = read_youtube_faces(str(shared_data / "youtube_faces")).take(range(0, 2847, 400))
        overlaps = []
        for path, box in zip(people.paths, people.boxes, strict=True):
            found = detector(people.read(path))
            overlaps.append(intersection_over_union([box], found).max(initial=0))
        assert np.mean(np.array(overlaps) > 0.4) >= 0.8
        assert np.median(overlaps) > 0.65

    def test_several_faces_and_no_face_are_detected(self, detector, shared_data):
        beatles = detector(read_image(shared_data / "photos" / "the_beatles.jpg"))
        assert len(beatles) >= 3
        area = np.prod(beatles[:, 2:] - beatles[:, :2], axis=1)
        assert (np.diff(area) <= 0).all()
        assert not len(detector(read_image(next((shared_data / "photos" / "no_face").glob("fox*")))))
