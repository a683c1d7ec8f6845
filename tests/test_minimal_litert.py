"""`examples/minimal_litert.py` equals `Predictor`, in sixty lines and with three packages."""

import ast
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import small_spec

from kpdetect.core.geometry import CropRule, apply_matrix, invert, tight_box, to_pixels
from kpdetect.core.images import warp_crop, write_image
from kpdetect.data import load, synthetic
from kpdetect.modelfile.bundle import read_spec, shipped_model
from kpdetect.predict import Predictor

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "minimal_litert.py"
SHIPPED = shipped_model() / "compact.tflite"
# Of the crop's side, or points of 68. The example's filter is a triangle and kpdetect's a bell; where the model is
# unsure, a grey level moves a point by some tenths of a pixel; one or two, where the face is cut off, by more.
MEAN_TOLERANCE, LARGEST_TOLERANCE, UNSURE = 0.0013, 0.009, 2


@pytest.fixture(scope="module")
def example():
    module_spec = importlib.util.spec_from_file_location("minimal_litert", EXAMPLE)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def assert_marks_alike(example, photograph, box):
    predictor = Predictor(SHIPPED)
    (face,) = predictor(photograph, boxes=[box])
    points, uncertainty = example.mark(str(SHIPPED), str(photograph), [float(side) for side in box])
    side = predictor.model.spec.crop.margin * max(box[2] - box[0], box[3] - box[1])
    distance = np.linalg.norm(points - face.keypoints, axis=1) / side
    assert distance.mean() < MEAN_TOLERANCE
    assert np.sort(distance)[-1 - UNSURE] < LARGEST_TOLERANCE
    np.testing.assert_allclose(uncertainty / side, face.uncertainty / side, rtol=0, atol=LARGEST_TOLERANCE)


@pytest.mark.parametrize("side", [96, 200, 800])  # enlarged, about unchanged, and reduced five times
def test_keypoints_of_synthetic_faces_of_any_size_equal_predictor(example, tmp_path, side):
    for index in range(2):
        image, keypoints = synthetic.render(seed=9, index=index, size=side)
        write_image(tmp_path / "face.png", image)
        assert_marks_alike(example, tmp_path / "face.png", tight_box(keypoints))


def test_the_crop_of_a_face_over_the_border_is_padded_with_black(example, tmp_path):
    image, keypoints = synthetic.render(seed=9, index=0, size=400)
    box = tight_box(keypoints)
    write_image(tmp_path / "cut.png", image[:, : int(box[2]) - 30])
    assert_marks_alike(example, tmp_path / "cut.png", box)


def test_exif_orientation_is_applied(example, tmp_path):
    image, keypoints = synthetic.render(seed=9, index=1, size=300)
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(image)))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated clockwise for display
    lying.save(tmp_path / "lying.png", exif=exif)
    assert_marks_alike(example, tmp_path / "lying.png", tight_box(keypoints))


@pytest.mark.parametrize("box", [(30.0, 20.0, 70.5, 90.0), (-20.0, 40.0, 60.0, 65.0), (0.0, 0.0, 199.0, 149.0)])
def test_crops_that_are_not_square_follow_the_crop_rule(example, box):
    rule = CropRule((32, 48), 1.35)
    slope = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
    picture = np.stack([slope, np.arange(150, dtype=np.uint8)[:, None] + 0 * slope, 0 * slope], axis=-1)
    left, top, scale = example.crop_of(box, rule.to_dict())
    crop = np.asarray(example.cut(Image.fromarray(picture), left, top, scale, rule.size_hw), int)
    # Inside the image, the red channel of the crop encodes x and the green one y.
    expected = warp_crop(picture, rule.matrix(box), rule.size_hw).astype(int)
    shown = warp_crop(np.full_like(picture, 255), rule.matrix(box), rule.size_hw).min(axis=-1) == 255
    assert shown.mean() > 0.3
    assert np.abs(crop - expected)[shown].max() <= 1 + scale / 4  # at the border, the filter includes some black
    assert np.abs(crop - expected)[shown].mean() < 0.3


def test_channels_size_and_type_follow_the_spec(example, tmp_path, monkeypatch):
    """The model has RGB crops that are not square, and uint8 input."""
    spec, seen = small_spec(), []
    with zipfile.ZipFile(tmp_path / "small.tflite", "w") as archive:
        archive.writestr("spec.json", spec.to_json())

    class Model:
        def __init__(self, path: str) -> None:
            assert path == str(tmp_path / "small.tflite")

        def get_signature_runner(self) -> "Model":
            return self

        def get_input_details(self) -> dict:
            return {"image": {"dtype": np.uint8}}

        def __call__(self, image: np.ndarray) -> dict:
            seen.append(image)
            relative = np.array([[[0, 0], [1, 1], [0.5, 0.25]]], np.float32)
            return {"uncertainty": np.full((1, 3), 0.1, np.float32), "keypoints": relative}

    monkeypatch.setattr(example, "Interpreter", Model)
    picture = np.tile(np.array([200, 100, 50], np.uint8), (90, 160, 1))
    write_image(tmp_path / "plain.png", picture)
    box = (50.0, 30.0, 90.0, 50.0)
    points, uncertainty = example.mark(str(tmp_path / "small.tflite"), str(tmp_path / "plain.png"), box)
    (image,) = seen
    assert image.shape == (1, 32, 48, 3)
    assert image.dtype == np.uint8
    assert (image == [200, 100, 50]).all()
    matrix = spec.crop.matrix(box)
    expected = apply_matrix(invert(matrix), to_pixels([[0, 0], [1, 1], [0.5, 0.25]], (32, 48)))
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(uncertainty, 0.1 * 1.35 * 40, rtol=1e-5)  # of the crop's longer side


def test_the_code_for_phones_has_the_shipped_crop_rule():
    crop = read_spec(shipped_model()).crop
    folder = EXAMPLE.parent
    for file, words in (
        (
            "android/face/src/main/kotlin/kpdetect/Geometry.kt",
            "Int = {1}, val height: Int = {1}, val margin: Double = {0}",
        ),
        ("ios/Sources/Kpdetect/Geometry.swift", "public var width = {1}, height = {1}, margin = {0}"),
    ):
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(words.format(f"{crop.margin:g}", crop.size_hw[0])) == 1, words


def test_published_faces(example, shared_data):
    faces = load(f"ibug:{shared_data / 'ibug_300w' / 'helen'}")
    for row in range(0, len(faces), max(1, len(faces) // 10)):
        assert_marks_alike(example, Path(faces.paths[row]), faces.boxes[row])


def test_it_is_a_program_that_prints_the_points(example, tmp_path):
    image, keypoints = synthetic.render(seed=9, index=0, size=200)
    write_image(tmp_path / "face.png", image)
    box = [str(side) for side in tight_box(keypoints).tolist()]
    command = [sys.executable, "-I", str(EXAMPLE), str(SHIPPED), str(tmp_path / "face.png"), *box]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    points, _ = example.mark(str(SHIPPED), str(tmp_path / "face.png"), [float(side) for side in box])
    read = np.array([line.split() for line in printed.splitlines()], float)
    np.testing.assert_allclose(read, points, rtol=0, atol=0.051)


def test_it_is_short_and_needs_three_packages():
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"ai_edge_litert", "numpy", "PIL"}
