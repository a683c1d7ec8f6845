"""Measures: known poses, mirrors, similarity transforms, schemes without the points, face chips, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect import measures, predict
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, apply_matrix, horizontal_flip, rotation, scaling, to_relative
from kpdetect.core.images import read_image, write_image
from kpdetect.core.options import run_command
from kpdetect.core.schema import IBUG68, IMM58, KeypointSchema, user_schema
from kpdetect.data import load
from kpdetect.data.synthetic import annotations
from kpdetect.data.synthetic.face_shape import face_shape
from kpdetect.data.synthetic.shape import POINT_DEPTH, Pose, place_face, turn_head, uncross
from kpdetect.detection import Face
from kpdetect.measures import chip_matrix, eye_openness, face_chip, find_blinks, head_pose, mouth_openness, smile
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec
from kpdetect.predict import Predictor

MEAN = face_shape().mean
FACES = [place_face(3, index) for index in range(60)]


def face_of(points: np.ndarray, schema: KeypointSchema = IBUG68) -> Face:
    points = np.asarray(points, np.float32)
    return Face(points, schema)


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0, shape: np.ndarray = MEAN) -> Face:
    """The mean face with the given rotation, 100 pixels between the eyes."""
    return face_of(turn_head(shape, Pose(yaw, pitch, roll, 0.5, (0.5, 0.5)))[0] * 100)


def mirrored(face: Face, width: int = 300) -> Face:
    swap = list(face.schema.flip_permutation)
    return face_of(apply_matrix(horizontal_flip(width), face.keypoints)[swap], face.schema)


def moved(face: Face, names: list[str], offset_xy: tuple[float, float]) -> Face:
    points = face.keypoints.copy()
    points[[face.schema.index(name) for name in names]] += np.float32(offset_xy)
    return face_of(points, face.schema)


def angles(face: Face) -> np.ndarray:
    pose = head_pose(face)
    return np.array([pose.yaw_deg, pose.pitch_deg, pose.roll_deg])


class TestHeadPose:
    def test_the_mean_face_is_that_of_synthetic_faces(self):
        for name, (x, y, depth) in measures.MEAN_FACE.items():
            index = IBUG68.index(name)
            np.testing.assert_allclose([x, y, depth], [*MEAN[index], POINT_DEPTH[index]], atol=6e-4)

    @pytest.mark.parametrize("yaw", [-45, -20, 0, 20, 45])
    @pytest.mark.parametrize("pitch", [-20, 0, 20])
    @pytest.mark.parametrize("roll", [-35, 0, 35])
    def test_a_known_pose_is_recovered(self, yaw, pitch, roll):
        # The camera of synthetic faces points at the spine, not at the face: up to 2.8 degrees at a yaw of 45.
        np.testing.assert_allclose(angles(turned(yaw, pitch, roll)), [yaw, pitch, roll], atol=3)

    def test_synthetic_people_of_known_pose(self):
        truth = np.array([(f.pose.yaw_deg, f.pose.pitch_deg, f.pose.roll_deg) for f in FACES])
        found = np.array([angles(face_of(f.points * 300)) for f in FACES])
        # Individual shapes differ from the mean face, which appears as a rotation.
        assert (np.abs(found - truth).mean(axis=0) < (6, 10, 1.5)).all()
        for axis, least in ((0, 0.9), (2, 0.98)):
            assert np.corrcoef(found[:, axis], truth[:, axis])[0, 1] > least

    def test_pose_differences_of_one_person(self):
        model, random, errors = face_shape(), np.random.default_rng(0), []
        for _ in range(40):
            shape = uncross(model.shape(np.clip(random.standard_normal(len(model.deviations)), -2, 2)))
            still = angles(turned(0, shape=shape))
            for yaw, pitch in ((20, 0), (-20, 0), (0, 15), (0, -15)):
                errors.append(np.abs(angles(turned(yaw, pitch, shape=shape)) - still - (yaw, pitch, 0)))
        assert (np.mean(errors, axis=0) < (3, 3.5, 1.5)).all()

    def test_a_mirror_negates_yaw_and_roll(self):
        for one in FACES[:20]:
            face = face_of(one.points * 300)
            np.testing.assert_allclose(angles(mirrored(face)), angles(face) * (-1, 1, -1), atol=0.01)

    def test_pose_is_invariant_to_position_and_size_and_roll_follows_rotation(self):
        for one in FACES[:20]:
            face = face_of(one.points * 300)
            for matrix in (scaling(0.3), scaling(7.0)):
                np.testing.assert_allclose(
                    angles(face_of(apply_matrix(matrix, face.keypoints))), angles(face), atol=0.02
                )
            np.testing.assert_allclose(
                angles(face_of(face.keypoints + np.float32([900, -400]))), angles(face), atol=0.02
            )
            turn = face_of(apply_matrix(rotation(25, (40, 80)), face.keypoints))
            np.testing.assert_allclose(angles(turn) - angles(face), [0, 0, 25], atol=0.02)

    def test_signs_of_the_angles(self):
        assert head_pose(turned(30)).yaw_deg > 0
        nose = turned(30).point("nose_tip")[0] - turned(30).keypoints[:, 0].mean()
        assert nose > 0, "to the right of the picture"
        assert turned(0, 20).point("nose_tip")[1] > turned(0, 0).point("nose_tip")[1], "down"

    @pytest.mark.parametrize("points", [np.zeros((68, 2)), np.tile(np.linspace(0, 50, 68)[:, None], 2)])
    def test_implausible_points_have_no_pose(self, points):
        with pytest.raises(KpdetectError, match=mentions("head pose")):
            head_pose(face_of(points))

    def test_non_finite_points_have_no_pose(self):
        points = turned(0).keypoints.copy()
        points[IBUG68.index("chin")] = np.nan
        with pytest.raises(KpdetectError, match=mentions("chin", "nan")):
            head_pose(Face(points, IBUG68))


class TestExpression:
    def test_the_ratio_by_hand(self):
        points = np.zeros((68, 2))
        points[36:42] = [(0, 0), (10, -4), (20, -5), (30, 0), (20, 3), (10, 2)]
        points[42:48] = [(60, 0), (70, -3), (80, -3), (90, 0), (80, 0), (70, 0)]
        openness = eye_openness(face_of(points))
        assert openness.right == pytest.approx((6 + 8) / 60)
        assert openness.left == pytest.approx((3 + 3) / 60)
        assert openness.mean == pytest.approx((14 / 60 + 6 / 60) / 2)

    def test_a_mirror_swaps_the_eyes_only(self):
        for one in FACES[:20]:
            face = face_of(one.points * 300)
            here, there = measures.measure(face), measures.measure(mirrored(face))
            assert there["eye_openness"]["right"] == pytest.approx(here["eye_openness"]["left"], abs=2e-4)
            for name in ("mouth_openness", "smile"):
                assert there[name] == pytest.approx(here[name], abs=2e-4)

    def test_measures_are_invariant_to_similarity_transforms(self):
        matrix = rotation(40, (5, 90)) @ scaling(2.5)
        for one in FACES[:20]:
            face, other = (face_of(points) for points in (one.points * 300, apply_matrix(matrix, one.points * 300)))
            for function in (lambda f: eye_openness(f).mean, mouth_openness, smile):
                assert function(other) == pytest.approx(function(face), abs=1e-4)

    def test_closed_and_open_eyes_are_distinguished(self):
        face = turned(0)
        assert not measures.eyes_closed(face)
        points = face.keypoints.copy()
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
            points[upper] = points[lower] + np.float32([0, -1])
        assert measures.eyes_closed(face_of(points))
        assert not measures.eyes_closed(face_of(points), threshold=0.01)

    def test_mouth_opening_by_hand(self):
        lower = ["inner_lower_lip_left", "inner_lower_lip", "inner_lower_lip_right"]
        grown = [mouth_openness(moved(turned(0), lower, (0, drop))) for drop in (0, 5, 10, 20)]
        assert grown == sorted(grown)
        # At 100 pixels between the eyes: 10 pixels more, divided by the inner mouth's width.
        width = np.linalg.norm(turned(0).point("inner_mouth_left") - turned(0).point("inner_mouth_right"))
        assert grown[2] - grown[0] == pytest.approx(10 / width, rel=0.02)

    def test_raised_or_wider_corners_increase_the_smile(self):
        face, corners = turned(0), ["mouth_left", "mouth_right"]
        assert smile(moved(face, corners, (0, -6))) > smile(face) + 0.1
        assert smile(moved(face, corners, (0, 6))) < smile(face) - 0.1
        assert smile(moved(face, ["mouth_left"], (10, 0))) == pytest.approx(smile(face) + 0.1, abs=0.01)

    def test_blinks_are_found(self):
        nan = float("nan")
        assert find_blinks([]) == []
        assert find_blinks([0.1, 0.1]) == [(0, 2)]
        assert find_blinks([0.3, 0.1, 0.3, 0.1, 0.1, nan, 0.1, 0.1, 0.1, 0.3]) == [(3, 5), (6, 9)]
        assert find_blinks([0.3, 0.1, 0.3], least_frames=1) == [(1, 2)]


class TestSchemes:
    def test_measures_use_names_not_indices(self):
        order = np.random.default_rng(0).permutation(68)
        shuffled = IBUG68.subset([IBUG68.point_names[index] for index in order])
        face = turned(20, 5, 10)
        assert measures.measure(face_of(face.keypoints[order], shuffled)) == measures.measure(face)

    def test_measures_of_imm58(self):
        points = np.random.default_rng(0).uniform(0, 100, (58, 2))
        report = measures.measure(face_of(points, IMM58))
        assert [name for name, value in report.items() if value is None] == ["head_pose", "mouth_openness"]
        with pytest.raises(KpdetectError, match=mentions("imm58", "inner_mouth_right", "ibug68")):
            mouth_openness(face_of(points, IMM58))

    @pytest.mark.parametrize(
        "function", [head_pose, eye_openness, measures.eyes_closed, mouth_openness, smile, chip_matrix]
    )
    def test_a_scheme_without_the_points_has_no_measures(self, function):
        face = face_of(np.float32([[1, 2], [3, 4]]), user_schema(["left_eye", "right_eye"]))
        with pytest.raises(KpdetectError, match=rf"{mentions('user', 'ibug68')}(?=.*\b\d+ points)"):
            function(face)
        with pytest.raises(KpdetectError, match=mentions("user", "head_pose", "smile", "ibug68")):
            measures.check_measurable(face.schema)

    def test_measures_can_be_written_as_json(self):
        report = measures.measure(turned(10))
        assert json.loads(json.dumps(report)) == report
        assert set(report) == {"head_pose", "eye_openness", "eyes_closed", "mouth_openness", "smile"}


def eye_middles(points: np.ndarray) -> np.ndarray:
    return np.array([points[[36, 39]].mean(axis=0), points[[42, 45]].mean(axis=0)])


class TestChip:
    @pytest.mark.parametrize(("size", "margin"), [(112, 1.5), (160, 1.0), (31, 2.3)])
    def test_the_eyes_of_chips_are_at_fixed_positions(self, size, margin):
        wanted = (np.array(measures.CANONICAL_EYES) - 0.5) / margin + 0.5
        for one in FACES[:20]:
            face = face_of(one.points * 300)
            placed = to_relative(apply_matrix(chip_matrix(face, size, margin), face.keypoints), (size, size))
            np.testing.assert_allclose(eye_middles(placed), wanted, atol=1e-4)

    def test_a_tight_chip_is_the_square_around_the_mean_face(self):
        placed = to_relative(apply_matrix(chip_matrix(face_of(MEAN * 100), 100, 1.0), MEAN * 100), (100, 100))
        low, high = placed.min(axis=0), placed.max(axis=0)
        np.testing.assert_allclose([low[0], high[0]], [0, 1], atol=2e-3)
        np.testing.assert_allclose(low[1], 1 - high[1], atol=2e-3)

    def test_chips_are_similarity_transforms_without_reflection(self):
        for one in FACES[:20]:
            linear = chip_matrix(face_of(one.points * 300))[:2, :2]
            assert np.linalg.det(linear) > 0
            np.testing.assert_allclose(linear @ linear.T, np.eye(2) * np.linalg.det(linear), atol=1e-9)

    def test_a_rotated_image_gives_the_same_chip(self):
        faces = annotations(3, seed=5, size=400)
        for path, points in zip(faces.paths, faces.keypoints, strict=True):
            picture = faces.read(path)
            quarter = np.ascontiguousarray(np.rot90(picture))  # anticlockwise: (x, y) to (y, W - 1 - x)
            there = np.stack([points[:, 1], picture.shape[1] - 1 - points[:, 0]], axis=1)
            here = face_chip(picture, face_of(points), 64).astype(float)
            assert here.shape == (64, 64, 3)
            assert np.abs(here - face_chip(quarter, face_of(there), 64)).mean() < 1.5

    @pytest.mark.parametrize(("size", "margin"), [(0, 1.5), (112, 0.0), (112, float("nan"))])
    def test_arguments_out_of_range_are_errors(self, size, margin):
        with pytest.raises(KpdetectError, match=mentions("face chip", str(size), str(margin))):
            chip_matrix(turned(0), size, margin)

    def test_coincident_eyes_are_an_error(self):
        with pytest.raises(KpdetectError, match=mentions("eyes", "[0.0, 0.0]")):
            chip_matrix(face_of(np.zeros((68, 2))))


class MeanFaceModel:
    """Predicts the mean face in the middle of every crop."""

    def __init__(self, schema: KeypointSchema):
        self.spec = Spec(schema, "none", {}, CropRule((20, 20), 1.0), 3)

    def predict(self, crops: np.ndarray) -> Prediction:
        points = MEAN[: self.spec.num_keypoints] / 2 + 0.5
        return Prediction(np.repeat(points[None], len(crops), axis=0).astype(np.float32), None)


@pytest.fixture
def command(monkeypatch):
    """The command with `MeanFaceModel` of a schema and two detected faces per photograph."""
    real = Predictor
    boxes = [(0, 0, 40, 40), (50, 10, 80, 40)]

    def run(schema: KeypointSchema, *words: object) -> int:
        monkeypatch.setattr(
            predict,
            "Predictor",
            lambda model, detector, **options: real(
                MeanFaceModel(schema), lambda image: boxes, second_look=False, **options
            ),
        )
        return run_command(predict.main, [str(word) for word in words])

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / "photos" / name, np.full((60, 90, 3), 200, np.uint8))
    return tmp_path / "photos"


class TestCommand:
    def test_measures_are_in_the_json(self, command, photos, capsys):
        assert command(IBUG68, photos, "--json", "-", "--measures") == 0
        for report in json.loads(capsys.readouterr().out):
            assert len(report["faces"]) == 2
            for face in report["faces"]:
                points = np.array(face["keypoints"])
                assert face["measures"]["smile"] == pytest.approx(smile(face_of(points)), abs=1e-3)
        assert command(IBUG68, photos, "--json", "-") == 0
        assert '"measures"' not in capsys.readouterr().out

    def test_chips_of_every_face_are_written(self, command, photos, tmp_path):
        assert command(IBUG68, photos, "--crop-faces", tmp_path / "chips") == 0
        chips = sorted((tmp_path / "chips").iterdir())
        assert [chip.name for chip in chips] == ["a_1.png", "a_2.png", "b_1.png", "b_2.png"]
        assert {read_image(chip).shape for chip in chips} == {(112, 112, 3)}
        assert read_image(chips[0])[56, 56].tolist() == [200, 200, 200]

    def test_chips_of_a_data_set_keep_its_folders(self, command, photos, tmp_path):
        rows = "".join(f"photos/{name},1,2,30,40,0,0,40,40\n" for name in ("a.png", "b.jpg"))
        (photos.parent / "faces.csv").write_text(f"image,p_x,p_y,q_x,q_y,box_x0,box_y0,box_x1,box_y1\n{rows}")
        assert command(IBUG68, "--data", f"csv:{photos.parent}/faces.csv", "--crop-faces", tmp_path / "chips") == 0
        assert sorted(chip.name for chip in (tmp_path / "chips").rglob("*.png")) == ["a_1.png", "b_1.png"]

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["--measures"], ["--measures", "--json"]),
            (["--crop-faces", "{photos}"], ["--crop-faces", "{photos}"]),
            (["--crop-faces", "chips.png"], ["--crop-faces", "chips.png"]),
        ],
    )
    def test_invalid_options_are_one_line_errors(self, command, photos, words, parts, capsys):
        assert command(IBUG68, photos, *(word.format(photos=photos) for word in words)) == 2
        error = capsys.readouterr().err
        assert lines_with(error, *(part.format(photos=photos) for part in parts))
        assert error.count("\n") == 1

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["--json", "-", "--measures"], ["user", "head_pose", "smile", "ibug68"]),
            (["--crop-faces", "chips"], ["user", "face chip", "ibug68"]),
        ],
    )
    def test_a_model_with_other_points_is_an_error_before_prediction(self, command, photos, words, parts, capsys):
        assert command(user_schema(["nose", "chin"]), photos, *words) == 2
        captured = capsys.readouterr()
        assert lines_with(captured.err, *parts)
        assert captured.out == ""


def test_mirrored_photographs_have_the_mirrored_pose(shared_data):
    faces, predictor, deviations = load(f"ibug:{shared_data / 'ibug_300w'}"), Predictor(), []
    for row in np.random.default_rng(1).choice(len(faces), 12, replace=False):
        picture, (x0, y0, x1, y1) = faces.read(faces.paths[row]), faces.boxes[row]
        last = picture.shape[1] - 1
        here = predictor(picture, [(x0, y0, x1, y1)])[0]
        there = predictor(np.ascontiguousarray(picture[:, ::-1]), [(last - x1, y0, last - x0, y1)])[0]
        deviations.append(np.abs(angles(there) - angles(here) * (-1, 1, -1)))
    assert (np.mean(deviations, axis=0) < (4, 3, 2)).all()


class TestHeadTransform:
    def test_the_head_pose_projects_the_mean_face_onto_the_points(self):
        names = list(measures.MEAN_FACE)
        for yaw, pitch in ((0, 0), (30, 0), (-30, 15)):
            face = turned(yaw, pitch)
            fit = measures.head_transform(face)
            model = np.array(list(measures.MEAN_FACE.values())) * (1, 1, -1)
            expected = [face.point(name) for name in names]
            np.testing.assert_allclose(fit.project(model), expected, atol=6)  # 100 pixels between the eyes

    def test_the_head_pose_is_a_rigid_transform_in_front_of_the_camera(self):
        fit = measures.head_transform(turned(25, -10, 40))
        rotation_part = fit.matrix[:3, :3]
        np.testing.assert_allclose(rotation_part @ rotation_part.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation_part) == pytest.approx(1)
        np.testing.assert_array_equal(fit.matrix[3], [0, 0, 0, 1])
        assert fit.matrix[2, 3] == pytest.approx(9, abs=1)
        assert fit.pose == head_pose(turned(25, -10, 40))

    def test_a_frontal_head_has_no_rotation(self):
        np.testing.assert_allclose(measures.head_transform(turned(0)).matrix[:3, :3], np.eye(3), atol=0.05)

    def test_the_axes_of_a_rotated_head(self):
        axes = measures.head_axes(turned(30))
        assert axes[0, 0] == pytest.approx(100 * np.cos(np.deg2rad(30)), abs=5)
        assert axes[0, 2] == pytest.approx(100 * np.sin(np.deg2rad(30)), abs=12)  # the nose points to the right
        assert axes[1, 1] == pytest.approx(100, abs=12)  # synthetic faces use another camera
