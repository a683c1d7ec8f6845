"""Filters follow the head, stay inside their region and are clipped at borders; invalid ones give one-line errors."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect import predict
from kpdetect.core.assets import PACKAGE
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import apply_matrix, rotation, scaling, translation
from kpdetect.core.images import read_image, write_image
from kpdetect.core.schema import IBUG68, IMM58, user_schema
from kpdetect.data import load
from kpdetect.data.synthetic.face_shape import face_shape
from kpdetect.data.synthetic.shape import Pose, turn_head
from kpdetect.detection import Face
from kpdetect.filters import SHIPPED, Filter, Inside, apply_filters, load_filter
from kpdetect.filters.fitting import WARPS, fit_perspective, project
from kpdetect.inference.overlay import make_draw
from kpdetect.visualization import draw_faces

ANCHORS = {"right_eye_outer": (20.0, 40.0), "left_eye_outer": (60.0, 40.0), "mouth_right": (28.0, 70.0)}
FOUR_ANCHORS = {**ANCHORS, "mouth_left": (52.0, 70.0)}


def mean_face(width: float = 100.0, center: tuple[float, float] = (150.0, 180.0)) -> Face:
    mean = face_shape().mean
    return face_of(mean * np.float32(width / np.ptp(mean[:, 0])) + np.float32(center))


def face_of(points: np.ndarray) -> Face:
    return Face(np.asarray(points, np.float32), IBUG68)


PLAIN = (128, 120, 112)


def plain(height: int = 300, width: int = 300) -> np.ndarray:
    """A photograph of one colour; not grey, because filters are grey on grey photographs."""
    return np.full((height, width, 3), PLAIN, np.uint8)


def turned_face(yaw_deg: float, width: float = 100.0, center: tuple[float, float] = (200.0, 240.0)) -> Face:
    """The mean face at the size of `mean_face`, rotated in 3D."""
    mean = face_shape().mean
    points = turn_head(mean, Pose(yaw_deg, 0.0, 0.0, 0.5, (0.5, 0.5)))[0]
    return face_of(points * np.float32(width / np.ptp(mean[:, 0])) + np.float32(center))


def changed_by(image: np.ndarray, face: Face, *filters: str | Filter) -> np.ndarray:
    return (apply_filters(image, [face], filters) != image).any(axis=2)


def noise(height: int = 300, width: int = 300) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def red_square(opacity: int = 255) -> np.ndarray:
    picture = np.zeros((80, 80, 4), np.uint8)
    picture[10:70, 10:70] = (255, 0, 0, opacity)
    return picture


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("angle_deg", [-75.0, 20.0, 90.0, 180.0])
def test_filters_rotate_with_the_face(name: str, angle_deg: float) -> None:
    image, face = plain(400, 400), mean_face(100.0, (200.0, 240.0))  # with room for the whole hat
    turn = rotation(angle_deg, (200.0, 200.0))
    upright = apply_filters(image, [face], [name])
    turned = apply_filters(image, [face_of(apply_matrix(turn, face.keypoints))], [name])
    expected = cv2.warpAffine(upright, turn[:2], (400, 400), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = np.hypot(*(np.indices((400, 400)) - 199.5)) < 190  # the upright image is cut off outside of this
    difference = np.abs(turned.astype(int) - expected).max(axis=2)[inside]
    assert (upright != image).any()
    assert difference.mean() < 1.0
    assert np.percentile(difference, 98) < 20  # thin lines are resampled once in one image and twice in the other


@pytest.mark.parametrize("name", SHIPPED)
def test_quarter_turns_are_exact_except_for_rounding(name: str) -> None:
    image, face = plain(400, 400), mean_face(90.0, (199.5, 219.5))
    turn = rotation(90, (199.5, 199.5))
    turned = apply_filters(image, [face_of(apply_matrix(turn, face.keypoints))], [name])
    difference = np.abs(turned.astype(int) - np.rot90(apply_filters(image, [face], [name]), -1))
    assert difference.mean() < 0.2
    assert difference.max() <= 12  # OpenCV's warp rounds positions to 1/32 pixel


@pytest.mark.parametrize("name", SHIPPED)
def test_the_filter_scales_with_the_face(name: str) -> None:
    face = mean_face(50.0, (75.0, 90.0))
    twice = face_of(apply_matrix(scaling(2.0), face.keypoints))
    small = apply_filters(plain(150, 150), [face], [name])
    great = apply_filters(plain(), [twice], [name])
    shrunk = cv2.resize(great, (150, 150), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 1.0


@pytest.mark.parametrize("name", SHIPPED)
def test_pixels_outside_the_filters_region_are_unchanged(name: str) -> None:
    image, face, one = noise(), mean_face(60.0), load_filter(name)
    changed = (apply_filters(image, [face], [one]) != image).any(axis=2)
    matrix = one.matrix(face.keypoints, IBUG68)
    assert matrix is not None
    height, width = one.levels[0].shape[:2]
    corners = project(matrix, [[-1, -1], [width, -1], [width, height], [-1, height]])
    region = cv2.fillConvexPoly(np.zeros((300, 300), np.uint8), np.rint(corners).astype(np.int32), 1)
    region = cv2.dilate(region, np.ones((5, 5), np.uint8))
    assert changed.any()
    assert not changed[region == 0].any()


def test_the_input_image_is_not_modified() -> None:
    image = noise()
    before = image.copy()
    assert (apply_filters(image, [mean_face()], SHIPPED) != before).any()
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(apply_filters(image, [], SHIPPED), before)
    np.testing.assert_array_equal(apply_filters(image, [mean_face()], []), before)


@pytest.mark.parametrize("warp", WARPS)
def test_transparent_filters_change_nothing(warp: str) -> None:
    image = noise()
    clear = Filter.of("clear", red_square(opacity=0), FOUR_ANCHORS, warp)
    np.testing.assert_array_equal(apply_filters(image, [mean_face()], [clear]), image)


def test_opaque_pixels_replace_and_half_opaque_pixels_average() -> None:
    face = mean_face()
    for opacity, expected in ((255, (255, 0, 0)), (128, (192, 60, 56))):
        one = Filter.of("square", red_square(opacity), ANCHORS)
        matrix = one.matrix(face.keypoints, IBUG68)
        assert matrix is not None
        x, y = np.rint(project(matrix, [[40, 40]])[0]).astype(int)
        np.testing.assert_allclose(apply_filters(plain(), [face], [one])[y, x], expected, atol=2)


@pytest.mark.parametrize("shift", [(-150, 0), (140, 0), (0, -170), (0, 120), (-140, -160)])
def test_clipping_at_the_border_equals_cropping_the_result(shift: tuple[int, int]) -> None:
    # At the top border, a hat is shortened instead of cut.
    filters = SHIPPED if shift[1] >= 0 else ["sunglasses", "moustache"]
    image, face = noise(700, 700), mean_face(100.0, (350.0, 380.0))
    whole = apply_filters(image, [face], filters)
    x, y = 200 - shift[0], 120 - shift[1]
    moved = face_of(apply_matrix(translation(-x, -y), face.keypoints))
    cut = apply_filters(image[y : y + 300, x : x + 300], [moved], filters)
    # Positions are rounded to 1/32 pixel.
    np.testing.assert_allclose(cut.astype(int), whole[y : y + 300, x : x + 300], atol=8)


class TestSunglasses:
    def arms(self, yaw_deg: float) -> tuple[int, int]:
        """The extent of the arms beyond the frame in pixels, at the left and right of the image."""
        face, frame = turned_face(yaw_deg), replace(load_filter("sunglasses"), arms=())
        with_arms, without = (
            np.flatnonzero(changed_by(plain(400, 400), face, one).any(axis=0)) for one in ("sunglasses", frame)
        )
        return without[0] - with_arms[0], with_arms[-1] - without[-1]

    def test_arms_follow_the_yaw_of_the_head(self) -> None:
        left, right = self.arms(0.0)
        assert left == right == 0  # behind the frame
        near, far = self.arms(35.0)  # the nose points to the right: the left arm is visible
        assert near > left + 10
        assert far == 0
        assert self.arms(-35.0) == pytest.approx((far, near), abs=1)

    def test_an_arm_ends_at_the_ear(self) -> None:
        face = turned_face(35.0)
        changed = changed_by(plain(400, 400), face, "sunglasses")
        x, y = np.rint(face.point("jaw_right_1")).astype(int)
        assert changed[y - 4 : y + 5, x - 1 : x + 3].any()
        assert not changed[:, : x - 3].any()

    def test_a_scheme_without_ears_has_no_arms(self) -> None:
        names = [name for name in IBUG68.point_names if "jaw" not in name]
        face = turned_face(0.0)
        part = Face(face.keypoints[[IBUG68.index(name) for name in names]], IBUG68.subset(names))
        frame = replace(load_filter("sunglasses"), arms=())
        image = plain(400, 400)
        np.testing.assert_array_equal(
            apply_filters(image, [part], ["sunglasses"]), apply_filters(image, [face], [frame])
        )


class TestMoustache:
    @pytest.mark.parametrize("yaw_deg", [-50, -25, 0, 25, 50])
    def test_the_moustache_stays_within_the_jaw(self, yaw_deg: float) -> None:
        face = turned_face(yaw_deg)
        outline = np.rint(face.keypoints[[*range(17), *range(26, 16, -1)]]).astype(np.int32)
        inside = cv2.fillPoly(np.zeros((400, 400), np.uint8), [outline], 1)
        inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
        changed = changed_by(plain(400, 400), face, "moustache")
        assert changed.any()
        assert not (changed & (inside == 0)).any()

    def test_a_frontal_face_has_most_of_the_moustache(self) -> None:
        free = replace(load_filter("moustache"), inside=None)
        widths = []
        for yaw_deg, one in ((0.0, free), (0.0, "moustache"), (50.0, "moustache")):
            columns = np.flatnonzero(changed_by(plain(400, 400), turned_face(yaw_deg), one).any(axis=0))
            widths.append(columns[-1] - columns[0])
        assert 0.8 * widths[0] < widths[1] <= widths[0]
        assert widths[2] < 0.75 * widths[1]


class TestHat:
    def test_the_hat_follows_the_yaw_of_the_head(self) -> None:
        offsets = []
        for yaw_deg in (-40.0, 0.0, 40.0):
            face = turned_face(yaw_deg)
            columns = np.flatnonzero(changed_by(plain(400, 400), face, "hat").any(axis=0))
            offsets.append((columns[0] + columns[-1]) / 2 - face.point("nose_bridge_1")[0])
        assert offsets[0] > offsets[1] + 15  # the nose points to the left, so the hat is to its right
        assert offsets[2] < offsets[1] - 15

    def test_the_hat_is_shortened_at_the_top_of_the_photograph(self) -> None:
        image, tall = plain(400, 400), mean_face(100.0, (200.0, 260.0))
        low = apply_filters(image, [mean_face(100.0, (200.0, 160.0))], ["hat"])
        rows = np.flatnonzero((apply_filters(image, [tall], ["hat"]) != image).any(axis=(1, 2)))
        cut_rows = np.flatnonzero((low != image).any(axis=(1, 2)))
        assert rows[-1] - cut_rows[-1] == 100  # the brim does not move
        assert 0 <= cut_rows[0] <= 6
        assert len(cut_rows) < len(rows) - 10

    def test_the_hat_has_a_minimum_height(self) -> None:
        image = plain(400, 400)
        changed = changed_by(image, mean_face(100.0, (200.0, 120.0)), "hat")
        assert changed[0].any()


def test_on_a_grey_photograph_filters_are_grey() -> None:
    grey = np.repeat(noise()[..., :1], 3, axis=2)
    drawn = apply_filters(grey, [mean_face()], SHIPPED).astype(int)
    assert (drawn != grey).any()
    assert np.ptp(drawn, axis=2).max() == 0
    tinted = grey.copy()
    tinted[::4, ::4, 0] //= 2
    assert np.ptp(apply_filters(tinted, [mean_face()], SHIPPED)[140:160, 140:160].astype(int), axis=2).max() > 5


def test_a_face_beyond_the_border_leaves_the_photograph_unchanged() -> None:
    image = noise()
    for center in ((-900.0, 100.0), (100.0, 2000.0), (1e7, -1e7)):
        np.testing.assert_array_equal(apply_filters(image, [mean_face(80.0, center)], SHIPPED), image)


def test_degenerate_and_non_finite_faces_have_no_filters() -> None:
    image = noise()
    flat = face_of(np.full((68, 2), 50.0, np.float32))
    nowhere = Face(np.full((68, 2), np.nan, np.float32), IBUG68)
    np.testing.assert_array_equal(apply_filters(image, [flat, nowhere], SHIPPED), image)


def test_several_faces_have_filters() -> None:
    image = noise(300, 600)
    left, right = mean_face(70.0, (150.0, 180.0)), mean_face(50.0, (450.0, 180.0))
    both = apply_filters(image, [left, right], SHIPPED)
    np.testing.assert_array_equal(both[:, :300], apply_filters(image, [left], SHIPPED)[:, :300])
    np.testing.assert_array_equal(both[:, 300:], apply_filters(image, [right], SHIPPED)[:, 300:])
    np.testing.assert_array_equal(both, apply_filters(image, [right, left], SHIPPED))


def test_larger_faces_are_drawn_last() -> None:
    near, far = mean_face(100.0), mean_face(50.0)
    red = Filter.of("red", red_square(), ANCHORS)
    for faces in ([near, far], [far, near]):
        np.testing.assert_array_equal(apply_filters(plain(), faces, [red]), apply_filters(plain(), [near], [red]))


@pytest.mark.parametrize("warp", WARPS)
def test_each_warp_maps_anchors_to_the_points_if_possible(warp: str) -> None:
    face = face_of(apply_matrix(rotation(25, (150, 150)), mean_face().keypoints))
    anchors = {name: tuple(face.point(name) * 0.5 + 7) for name in FOUR_ANCHORS}
    matrix = Filter.of("own", red_square(), anchors, warp).matrix(face.keypoints, IBUG68)
    assert matrix is not None
    np.testing.assert_allclose(project(matrix, list(anchors.values())), [face.point(n) for n in anchors], atol=1e-2)


def test_a_perspective_warp_recovers_a_homography() -> None:
    truth = np.array([[1.2, 0.1, 5], [-0.2, 0.9, 3], [0.002, -0.001, 1]])
    places = np.random.default_rng(0).uniform(0, 80, (7, 2))
    found = fit_perspective(places, project(truth, places).astype(np.float64), np.ones(7))
    np.testing.assert_allclose(found, truth, atol=1e-4)


def test_implausible_points_use_a_warp_without_depth() -> None:
    points = mean_face().keypoints.copy()
    points[[48, 54]] = points[[36, 45]].mean(axis=0) + np.float32([[-1, 40], [1, 40]])  # the mouth is two pixels wide
    matrix = Filter.of("own", red_square(), FOUR_ANCHORS, "perspective").matrix(points, IBUG68)
    assert matrix is not None
    np.testing.assert_array_equal(matrix[2], (0, 0, 1))


def test_imm58_has_the_anchors_and_other_schemes_are_errors() -> None:
    for name in SHIPPED:
        assert len(load_filter(name).check_scheme(IMM58)) >= 3
        with pytest.raises(KpdetectError, match=mentions(name, "user", "0")):
            load_filter(name).check_scheme(user_schema(["nose", "ear"]))


def test_packaged_filter_images_are_small_and_512_pixels_wide() -> None:
    for name in SHIPPED:
        file = PACKAGE / "filters" / "pictures" / f"{name}.png"
        assert file.stat().st_size < 100_000
        assert read_image(file).shape[1] == 512


def write_filter(folder: Path, description: object, picture: np.ndarray | None = None) -> Path:
    pixels = red_square() if picture is None else picture
    (folder / "crown.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (folder / "crown.json").write_text(json.dumps(description), encoding="utf-8")
    return folder / "crown.json"


def test_a_custom_filter_is_applied(tmp_path: Path) -> None:
    picture = red_square()[..., [2, 1, 0, 3]]  # as written by OpenCV
    file = write_filter(tmp_path, {"picture": "crown.png", "anchors": ANCHORS}, picture)
    own = apply_filters(plain(), [mean_face()], [str(file)])
    expected = apply_filters(plain(), [mean_face()], [Filter.of("crown", red_square(), ANCHORS)])
    np.testing.assert_array_equal(own, expected)


def test_optional_fields_of_a_custom_filter_are_read(tmp_path: Path) -> None:
    arm = {"picture": "crown.png", "hinge": [1, 2], "end": "chin", "width": 9}
    optional = {"depth": 0.5, "shorten": [3, 40], "inside": {"group": "jaw", "middle": 40}, "arms": [arm]}
    one = load_filter(write_filter(tmp_path, {"picture": "crown.png", "anchors": ANCHORS, **optional}))
    assert (one.depth, one.shorten, one.inside) == (0.5, (3.0, 40.0), Inside("jaw", 40.0))
    assert [(arm.hinge, arm.end, arm.width) for arm in one.arms] == [((1.0, 2.0), "chin", 9.0)]


@pytest.mark.parametrize("field", [{"depth": "far"}, {"shorten": [1]}, {"inside": "jaw"}, {"arms": [{"end": "chin"}]}])
def test_an_invalid_optional_field_is_a_one_line_error_with_the_file(tmp_path: Path, field: dict[str, object]) -> None:
    file = write_filter(tmp_path, {"picture": "crown.png", "anchors": ANCHORS, **field})
    with pytest.raises(KpdetectError) as caught:
        load_filter(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("description", "parts"),
    [
        ([1], ["picture", "anchors"]),
        ({"picture": "crown.png"}, ["picture", "anchors"]),
        ({"picture": "crown.png", "anchors": ANCHORS, "color": 1}, ["color"]),
        ({"picture": "none.png", "anchors": ANCHORS}, ["none.png"]),
        ({"picture": "crown.json", "anchors": ANCHORS}, ["RGBA"]),
        ({"picture": "crown.png", "anchors": ANCHORS, "warp": "afine"}, ["afine", "affine"]),
        ({"picture": "crown.png", "anchors": ANCHORS, "warp": "perspective"}, ["perspective", "4"]),
        ({"picture": "crown.png", "anchors": {"nose_tip": [1]}}, ["nose_tip", "[1]"]),
        ({"picture": "crown.png", "anchors": {"nose_tip": "here"}}, ["nose_tip", "here"]),
        ({"picture": "crown.png", "anchors": {"nose_tip": [1, 2, 0]}}, ["nose_tip", "0", "[1, 2, 0]"]),
    ],
)
def test_an_invalid_filter_is_a_one_line_error(tmp_path: Path, description: object, parts: list[str]) -> None:
    file = write_filter(tmp_path, description)
    with pytest.raises(KpdetectError) as caught:
        load_filter(file)
    assert lines_with(str(caught.value), str(tmp_path), *parts)
    assert "\n" not in str(caught.value)


def test_images_without_alpha_and_invalid_json_are_errors(tmp_path: Path) -> None:
    file = write_filter(tmp_path, {"picture": "crown.png", "anchors": ANCHORS}, red_square()[..., :3])
    with pytest.raises(KpdetectError, match=mentions("crown.png", "RGBA")):
        load_filter(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(KpdetectError, match=mentions("crown.json", "JSON")):
        load_filter(file)
    with pytest.raises(KpdetectError, match=mentions("none.json")):
        load_filter(tmp_path / "none.json")


def test_a_misspelt_point_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_filter(tmp_path, {"picture": "crown.png", "anchors": {**ANCHORS, "nose_tipp": [40, 50]}})
    make_draw(["hat", str(file)], False, IBUG68)
    error = capsys.readouterr().err
    assert lines_with(error, "crown", "ibug68", "nose_tipp")
    assert error.count("\n") == 1


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(KpdetectError, match=mentions("sunglases", "sunglasses")):
        apply_filters(plain(), [mean_face()], ["sunglases"])


class TestCommand:
    def test_filters_are_drawn_and_points_only_on_request(self, tmp_path: Path) -> None:
        photo, filtered, marked = (tmp_path / name for name in ("photo.png", "filtered.png", "marked.png"))
        write_image(photo, noise())
        spec, names = f"csv:{self.labelled(photo)}", ["hat", "sunglasses"]
        words = ["--data", spec, "--filter", ",".join(names)]
        assert predict.main([*words, "--draw", str(filtered)]) == 0
        assert predict.main([*words, "--draw", str(marked), "--draw-points"]) == 0
        faces = predict.Predictor()(noise(), boxes=load(spec).boxes)
        expected = apply_filters(noise(), faces, names)
        np.testing.assert_array_equal(read_image(filtered), expected)
        np.testing.assert_array_equal(read_image(marked), draw_faces(expected, faces))

    def labelled(self, photo: Path) -> Path:
        points = mean_face().keypoints.reshape(-1).tolist()
        names = [f"{name}_{axis}" for name in IBUG68.point_names for axis in "xy"]
        file = photo.with_suffix(".csv")
        lines = [["image", *names], [photo.name, *(f"{value:.2f}" for value in points)]]
        file.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
        return file

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["--draw", "x.png", "--filter", "mustache"], ["mustache", "moustache"]),
            (["--filter", "hat"], ["--filter", "--draw"]),
            (["--draw", "x.png", "--draw-points"], ["--draw-points", "--filter"]),
        ],
    )
    def test_wrong_options_are_errors_before_prediction(self, words: list[str], parts: list[str]) -> None:
        with pytest.raises(KpdetectError, match=mentions(*parts)):
            predict.main(["photo.png", *words])


def test_every_face_of_a_real_photograph_has_filters(shared_data: Path) -> None:
    image = read_image(shared_data / "photos" / "obamas.jpg")
    faces = predict.Predictor()(image)
    worn = apply_filters(image, faces, ["sunglasses"])
    for face in faces:
        x, y = face["left_eye"].mean(axis=0).astype(int)
        assert worn[y - 2 : y + 3, x - 2 : x + 3].mean() < 100  # covered by dark glasses
