"""The command ``show``: its pictures, and one-line errors."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions
from small_models import small_bundle

from kpdetect import show, visualization
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, tight_box
from kpdetect.core.images import read_image, write_image
from kpdetect.core.options import run_command
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema
from kpdetect.data import Annotations, load
from kpdetect.data.labelled_faces import crop_faces, mean_layout, read_history, select_evenly
from kpdetect.modelfile.bundle import load_bundle, save_bundle
from kpdetect.modelfile.spec import Spec
from kpdetect.recipes import RECIPES, Recipe, TrainOptions, choose_recipe
from kpdetect.show import PICTURES, main
from kpdetect.visualization.marks import (
    LEFT_COLOR,
    MIDDLE_COLOR,
    RIGHT_COLOR,
    number_places,
    part_colors,
    side_colors,
)

OWN = user_schema(["left_eye", "right_eye", "nose"])
DATA = "synthetic:4"


def own_faces(points: np.ndarray, visible: np.ndarray | None = None, schema: KeypointSchema = OWN) -> Annotations:
    count = len(points)
    return Annotations(
        schema=schema,
        name="own",
        paths=np.array([f"{index}.png" for index in range(count)]),
        keypoints=np.float32(points),
        visible=np.ones(points.shape[:2], bool) if visible is None else visible,
        boxes=tight_box(points),
        subjects=np.array([str(index) for index in range(count)]),
        read=lambda path: np.full((50, 60, 3), 70, np.uint8),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network for the 68 points of synthetic faces."""
    from kpdetect import models

    options = {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1]}
    spec = Spec(IBUG68, "compact", options, CropRule((32, 32), 1.35), 1, recipe="small", data=("drawn",))
    folder = tmp_path_factory.mktemp("models") / "small"
    save_bundle(models.build("compact", 68, spec.input_shape, options), spec, folder)
    return folder


@pytest.fixture(scope="module")
def rgb_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("models") / "rgb")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    file = tmp_path / "run" / "history.csv"
    file.parent.mkdir()
    file.write_text("epoch,loss,val_loss\n1,3.5,3\n2,2.25,2\n")
    return file


class TestCommand:
    @pytest.mark.parametrize(
        "words",
        [
            f"keypoints --data {DATA} --count 3",
            f"keypoints --data {DATA} --count 3 --morphed",
            f"scheme --data {DATA}",
            "scheme --scheme ibug68",
            f"transforms --data {DATA} --count 2",
            f"transforms --data {DATA} --count 2 --recipe naimish",
            "curves RUN",
            f"predictions --model MODEL --data {DATA} --count 3",
            "kernels --model MODEL",
            "kernels --model RGB",
            f"feature-maps --model MODEL --data {DATA} --face 2",
            "feature-maps --model RGB",
            f"errors --model MODEL --data {DATA}",
        ],
    )
    def test_every_picture_is_drawn_by_one_command(self, words, bundle, rgb_bundle, history, tmp_path, capsys):
        places = {"MODEL": str(bundle), "RGB": str(rgb_bundle), "RUN": str(history.parent)}
        target = tmp_path / "deep" / "picture.png"
        assert run_command(main, [*(places.get(word, word) for word in words.split()), "--out", str(target)]) == 0
        assert capsys.readouterr().out == f"{target}\n"
        assert min(read_image(target).shape[:2]) > 100
        assert os.listdir(target.parent) == ["picture.png"]

    def test_a_picture_has_a_default_name(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert run_command(main, ["keypoints", "--data", DATA, "--count", "1"]) == 0
        assert (tmp_path / capsys.readouterr().out.strip()).is_file()
        defaults = {picture.options.__dataclass_fields__["out"].default for picture in PICTURES.values()}
        assert len(defaults) == len(PICTURES)

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            ("keypionts", "keypionts keypoints"),
            ("keypoints --count 0", "--count 1 0"),
            ("keypoints --data synthetc:3", "synthetc synthetic"),
            ("keypoints --out picture.weird", "picture.weird .weird png"),
            ("keypoints --out picture", "picture png"),
            ("keypoints --out .", "suffix"),
            ("scheme --scheme ibug86", "ibug86 ibug68"),
            ("transforms --recipe compct", "compct compact"),
            ("curves nowhere", "nowhere"),
            ("predictions --model nowhere", "nowhere"),
            ("errors --model nowhere", "nowhere"),
            ("errors --model RGB", "ibug68 68"),
            ("kernels --model nowhere", "nowhere"),
            ("feature-maps --model MODEL --image photo.jpg --data synthetic:2", "--image --data"),
            ("feature-maps --model MODEL --data synthetic:2 --face 2", "--face 0 1 2"),
            ("feature-maps --model MODEL --image BLANK", "BLANK --data"),
            ("feature-maps --model MODEL --image BLANK --out BLANK", "--out BLANK"),
        ],
    )
    def test_an_expected_error_is_one_line_and_writes_nothing(
        self, words, parts, bundle, rgb_bundle, tmp_path, monkeypatch, capsys
    ):
        blank = tmp_path / "input" / "blank.png"
        write_image(blank, np.full((80, 80, 3), 128, np.uint8))
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        places = {"MODEL": str(bundle), "RGB": str(rgb_bundle), "BLANK": str(blank)}
        before = blank.read_bytes()
        assert run_command(main, [places.get(word, word) for word in words.split()]) == 2
        error = capsys.readouterr().err.splitlines()
        assert lines_with(error[-1], *(places.get(part, part) for part in parts.split()))
        assert sum(line.startswith("kpdetect: ") for line in error) <= 2  # one error before a model is read
        assert not [line for line in error if "Traceback" in line]
        assert not os.listdir()
        assert blank.read_bytes() == before

    @pytest.mark.parametrize("name", ["keypoints", "scheme", "transforms", "predictions", "errors"])
    def test_faces_without_points_are_an_error(self, name, bundle, tmp_path, monkeypatch, capsys):
        unlabelled = own_faces(np.ones((2, 3, 2)) * [[0], [1], [2]], np.zeros((2, 3), bool))
        monkeypatch.setattr(show, "load", lambda spec, skip: unlabelled)
        model = ["--model", str(bundle)] if name in ("predictions", "errors") else []
        assert run_command(main, [name, *model, "--out", str(tmp_path / "p.png")]) == 2
        assert lines_with(capsys.readouterr().err, unlabelled.name, "show", "2")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", PICTURES)
    def test_help_has_an_example(self, name, capsys):
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        page = capsys.readouterr().out
        assert f"python -m kpdetect.show {name}" in page
        assert "--out" in page

    def test_help_names_every_picture(self, capsys):
        assert main([]) == 0
        page = capsys.readouterr().out
        assert all(f"  {name} " in page for name in PICTURES)

    def test_pictures_of_data_need_no_tensorflow(self, tmp_path):
        code = (
            "import sys; from kpdetect.show import main; main(sys.argv[1:])\n"
            "assert 'tensorflow' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
        )
        target = tmp_path / "k.png"
        command = [sys.executable, "-c", code, "keypoints", "--data", "synthetic:2", "--out", str(target)]
        subprocess.run(command, check=True, env={**os.environ, "DISPLAY": ""})
        assert target.is_file()


class TestMarks:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 40), st.integers(0, 99))
    def test_numbers_are_beside_their_points_and_do_not_overlap(self, count, seed):
        points = np.random.default_rng(seed).uniform(0, 100, (count, 2))
        places = number_places(points, 3.0)
        distances = np.linalg.norm(places - points, axis=1)
        assert ((distances > 2.9) & (distances < 5.0)).all()

    def test_numbers_do_not_cover_points_of_a_row(self):
        points = np.stack([np.arange(10) * 4.0, np.zeros(10)], axis=1)
        places = number_places(points, 3.0)
        to_points = np.linalg.norm(places[:, None] - points[None], axis=2)
        between = np.linalg.norm(places[:, None] - places[None], axis=2) + 99 * np.eye(10)
        assert to_points.min() > 2.5
        assert between.min() > 2.5

    def test_a_missing_point_has_no_number(self):
        places = number_places([[1.0, 1.0], [np.nan, np.nan]], 2.0)
        assert np.isfinite(places).tolist() == [[True, True], [False, False]]

    def test_sides_are_coloured_by_names_and_change_with_the_swap(self):
        assert side_colors(OWN) == [LEFT_COLOR, RIGHT_COLOR, MIDDLE_COLOR]
        assert set(side_colors(user_schema(["a", "b"]))) == {MIDDLE_COLOR}
        unnamed = KeypointSchema("pair", ("a", "b"), flip_permutation=(1, 0))
        assert side_colors(unnamed) == [RIGHT_COLOR, LEFT_COLOR]
        colors, swap = side_colors(IBUG68), IBUG68.flip_permutation
        other = {LEFT_COLOR: RIGHT_COLOR, RIGHT_COLOR: LEFT_COLOR, MIDDLE_COLOR: MIDDLE_COLOR}
        assert [colors[partner] for partner in swap] == [other[color] for color in colors]

    def test_adjacent_parts_have_different_colours(self):
        colors = np.array(part_colors(IBUG68))
        of_parts = [set(colors[list(part)]) for part in IBUG68.groups.values()]
        assert all(len(part) == 1 for part in of_parts)
        assert len(set.union(*of_parts)) == len(IBUG68.groups)
        assert len(set(part_colors(OWN))) == 1


class TestExhibits:
    def test_selected_faces_are_spread_over_the_set(self):
        faces = load("synthetic:10")
        assert select_evenly(faces, 3).paths.tolist() == faces.paths[[0, 4, 9]].tolist()
        assert len(select_evenly(faces, 99)) == 10
        with pytest.raises(KpdetectError, match=mentions(faces.name)):
            select_evenly(faces.take([]), 3)

    def test_the_mean_face_is_invariant_to_position_and_size(self):
        shape = np.float32([[0, 0], [4, 0], [2, 3]])
        faces = own_faces(np.stack([shape, 5 * shape + 7, 0.5 * shape - 3]))
        expected = (shape - [2, 1.5]) / 4
        np.testing.assert_allclose(mean_layout(faces), expected, atol=1e-5)

    def test_hidden_points_have_zero_weight(self):
        shape = np.float32([[0, 0], [4, 0], [2, 3]])
        hidden = np.array([[True, True, True], [True, True, False], [True, True, False]])
        faces = own_faces(np.stack([shape, shape, shape]), hidden)
        np.testing.assert_allclose(mean_layout(faces), (shape - [2, 1.5]) / 4, atol=1e-5)
        never = own_faces(shape[None], np.array([[True, True, False]]))
        assert np.isnan(mean_layout(never)).all(axis=1).tolist() == [False, False, True]

    def test_crops_are_centred_on_the_points(self):
        faces = select_evenly(load("synthetic:8"), 3)
        crops, points = crop_faces(faces, CropRule((64, 64), 1.5))
        assert crops.shape == (3, 64, 64, 3)
        box = tight_box(points)
        np.testing.assert_allclose((box[:, :2] + box[:, 2:]) / 2, 31.5, atol=0.01)
        np.testing.assert_allclose((box[:, 2:] - box[:, :2]).max(axis=1), 64 / 1.5, rtol=1e-4)

    def test_a_log_is_read_from_a_folder_or_a_file(self, history):
        expected = {"loss": [3.5, 2.25], "val_loss": [3.0, 2.0]}
        assert read_history(str(history)) == read_history(str(history.parent)) == expected

    @pytest.mark.parametrize("text", ["epoch,loss\n1,many\n", "epoch,loss,nme\n1,2\n"])
    def test_a_damaged_log_is_named(self, history, text):
        history.write_text(text)
        with pytest.raises(KpdetectError, match=mentions(str(history))):
            read_history(str(history))


class TestInspection:
    @pytest.fixture
    def faces(self) -> Annotations:
        return load("synthetic:3")

    def test_transforms_alone_and_together(self, faces):
        from kpdetect.training.augmentation_preview import transform_rows

        recipe = choose_recipe(TrainOptions(recipe="compact"))
        before, crop, *alone, together = transform_rows(faces, recipe, seed=0)
        assert before.label.startswith("as cached")
        assert together.label == "all together"
        names = [row.label.splitlines()[0] for row in (crop, *alone)]
        assert names[0] == "CenterCrop"
        assert {"RandomRotation", "RandomFlip", "CutOut", "Noise"} <= set(names)
        for row in alone:
            moved = np.abs(row.keypoints - crop.keypoints).max() > 0.5
            changed = any((a != b).any() for a, b in zip(row.images, crop.images, strict=True))
            spatial = row.label.startswith("Random")
            assert (moved, changed) == (spatial, True), row.label

    def test_image_and_points_move_together(self):
        """A bright dot at a point is at the point in every row."""
        from kpdetect.training.augmentation_preview import transform_rows

        picture = np.zeros((100, 100, 3), np.uint8)
        picture[28:33, 58:63] = 255
        faces = own_faces(np.float32([[[60, 30], [30, 30], [45, 70]]]))
        faces = Annotations(**{**vars(faces), "read": lambda path: picture})
        for row in transform_rows(faces, choose_recipe(TrainOptions(recipe="compact-112")), seed=3):
            dots = row.images[0][..., 0] > 0.6 * row.images[0].max()
            if row.label.split()[0] in ("CutOut", "all"):
                continue  # the cutout may be as bright
            found = np.array([axis.mean() for axis in np.nonzero(dots)[::-1]])
            # The dot is the left eye, and the right eye in a mirrored image.
            nearest = np.linalg.norm(row.keypoints[0] - found, axis=1)
            assert nearest.min() < 1.0, row.label
            assert nearest.argmin() == (1 if row.label.startswith("RandomFlip") else 0), row.label

    @pytest.mark.parametrize("name", RECIPES)
    def test_every_recipe_s_transforms_can_be_shown(self, name, faces, tmp_path):
        from kpdetect.training.augmentation_preview import transform_rows

        recipe: Recipe = choose_recipe(TrainOptions(recipe=name))
        rows = transform_rows(select_evenly(faces, 1), recipe, seed=1)
        assert all(np.isfinite(row.keypoints).all() for row in rows)
        assert rows[-1].images[0].shape == (*recipe.crop.size_hw, recipe.channels)

    def test_the_first_layer_s_maps_are_the_convolution(self, bundle):
        from kpdetect.inference.model_input import face_of_data
        from kpdetect.visualization.first_layer import feature_maps_of, first_convolution

        model, spec = load_bundle(bundle)
        crop = face_of_data(load(DATA), spec, 1)
        maps, kernels = feature_maps_of(model, crop), np.asarray(first_convolution(model).kernel)
        padded = np.pad(crop[..., 0] / 255.0, 1)
        for row, column, number in [(0, 0, 0), (5, 7, 2), (15, 15, 3)]:
            patch = padded[2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            expected = (patch * kernels[:, :, 0, number]).sum()
            assert maps[row, column, number] == pytest.approx(expected, abs=1e-4)

    def test_errors_equal_those_of_evaluate(self, bundle):
        from kpdetect.evaluation.evaluator import evaluate
        from kpdetect.evaluation.predictions import predictions_of
        from kpdetect.modelfile import runtime

        faces = load(DATA)
        made = predictions_of(str(bundle), faces, "all")
        model = runtime.load(bundle)
        measured = evaluate(model, faces, model.spec)
        np.testing.assert_allclose(made.per_face, measured.errors, rtol=1e-5)
        assert made.per_point.mean() == pytest.approx(measured.errors.mean(), rel=1e-4)
        for word in ("boxes: truth", "inter-ocular", "split: all", "4 faces"):
            assert word in made.caption


class TestPictures:
    def test_different_numbers_of_images_and_points_are_an_error(self, tmp_path):
        crops, points = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 3, 2))
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "k.png"), "2", "1")):
            visualization.keypoint_sheet(crops, points, OWN, ["one"], tmp_path / "k.png")
        row = visualization.TransformRow("before", list(crops), points)
        for rows in ([], [row, visualization.TransformRow("after", list(crops[:1]), points[:1])]):
            with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "t.png"))):
                visualization.transform_sheet(rows, OWN, "", tmp_path / "t.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "s.png"), "(3, 2)")):
            visualization.scheme_page(points[0, :2], OWN, tmp_path / "s.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "e.png"), "3", "(1,)")):
            visualization.point_errors(points[0], [0.1], OWN, "", tmp_path / "e.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "k.png"), "(3, 3, 2, 4)")):
            visualization.kernel_sheet(np.zeros((3, 3, 2, 4)), "", tmp_path / "k.png")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "f.png"))):
            visualization.feature_maps(crops[0], np.zeros((3, 3, 3, 4)), np.zeros((8, 8, 3)), "", tmp_path / "f.png")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("schema", [OWN, user_schema(["nose"]), user_schema(["a", "b", "c", "d"]), IBUG68])
    def test_schemes_without_flip_or_groups(self, schema, tmp_path):
        random = np.random.default_rng(0)
        layout = random.normal(size=(schema.num_keypoints, 2))
        visualization.scheme_page(layout, schema, tmp_path / "s.png")
        errors = random.uniform(0, 0.2, schema.num_keypoints)
        if schema.num_keypoints > 1:
            layout[1], errors[1] = np.nan, np.nan
        visualization.point_errors(layout, errors, schema, "caption", tmp_path / "e.png")
        assert {file.name for file in tmp_path.iterdir()} == {"s.png", "e.png"}

    def test_zero_kernels_and_constant_maps_are_drawn(self, tmp_path):
        kernels = np.zeros((3, 3, 1, 5))
        visualization.kernel_sheet(kernels, "zero", tmp_path / "k.png")
        visualization.feature_maps(
            np.zeros((8, 8, 1), np.uint8), kernels, np.ones((6, 6, 5)), "flat", tmp_path / "f.png"
        )
        assert len(list(tmp_path.iterdir())) == 2


def test_published_faces(shared_data, tmp_path):
    """Labels and photographs of a published set; pictures are written to a temporary folder only."""
    words = [
        "--data",
        f"youtube-faces:{shared_data / 'youtube_faces'}",
        "--count",
        "2",
        "--out",
        str(tmp_path / "k.png"),
    ]
    assert run_command(main, ["keypoints", *words]) == 0
    assert read_image(tmp_path / "k.png").shape[1] > 800


def test_the_packaged_models_are_listed_with_their_size_and_error(capsys) -> None:
    assert main(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "alias", "points", "input", "bytes", "error"]
    (row,) = rows
    assert row.split()[:6] == ["compact-160-v2", "compact", "68", "160x160", "grey", "1217621"]
    assert lines_with(row, "3.17 %", "inter-ocular", "151")
