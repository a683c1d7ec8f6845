"""The SavedModel signature for encoded photographs and boxes equals `Predictor`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from messages import mentions
from small_models import small_face_spec

from kpdetect.core.geometry import CropRule, image_box
from kpdetect.core.images import cv2, read_image, to_channels, warp_crop, write_image
from kpdetect.data import load, synthetic
from kpdetect.exporters import PHOTOGRAPH_SIGNATURE
from kpdetect.predict import Predictor

TOLERANCE_PX = 0.1


@pytest.fixture(scope="module")
def marks(face_exports) -> Callable[..., dict[str, np.ndarray]]:
    """The signature as a function of file content and boxes."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(face_exports / "saved_model"))
    signature = loaded.signatures[PHOTOGRAPH_SIGNATURE]

    def call(path: Path, boxes, keep=loaded) -> dict[str, np.ndarray]:  # a signature does not reference its variables
        given = {"photograph": tf.constant(path.read_bytes()), "boxes": tf.constant(boxes, tf.float32)}
        return {name: tensor.numpy() for name, tensor in signature(**given).items()}

    return call


def drawn_photograph(path: Path, size: int) -> list[np.ndarray]:
    """Writes a synthetic face; returns its box, and shifted, small and clipped ones."""
    picture, points = synthetic.render(seed=3, index=size % 7, size=min(size, 256))
    picture, points = cv2.resize(picture, (size, size)), points * size / len(picture)
    write_image(path, picture)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    shifted = box + 0.37 * size * np.array([1, -1, 1, -1])
    beyond = np.array([-0.2, -0.3, 0.55, 0.4]) * size
    small = np.array([0.31, 0.42, 0.36, 0.48]) * size
    return [box, shifted, beyond, small]


@pytest.mark.parametrize("size", [64, 300, 900, 2048])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_the_signature_equals_the_predictor(face_exports, marks, tmp_path, size, suffix) -> None:
    path = tmp_path / f"drawn{suffix}"
    boxes = drawn_photograph(path, size)
    faces = Predictor(face_exports / "small.tflite")(path, boxes=boxes)
    found = marks(path, boxes)
    assert found["keypoints"].shape == (4, 3, 2)
    for face, points, uncertainty in zip(faces, found["keypoints"], found["uncertainty"], strict=True):
        np.testing.assert_allclose(points, face.keypoints, atol=TOLERANCE_PX)
        np.testing.assert_allclose(uncertainty, face.uncertainty, atol=TOLERANCE_PX)


@pytest.mark.parametrize("size", [100, 700, 2000])
def test_its_crops_equal_those_of_warp_crop(tmp_path, size) -> None:
    path = tmp_path / "drawn.png"
    boxes = drawn_photograph(path, size)
    check_crops(path, boxes)


def check_crops(path: Path, boxes) -> None:
    """Most pixels are equal; JPEG rounding and crop borders cause differences of a grey level."""
    import tensorflow as tf

    from kpdetect.exporters import photograph_signature

    spec = small_face_spec()
    pixels = photograph_signature._decoded(tf.constant(path.read_bytes()), spec.channels)
    crops = photograph_signature._crops(pixels, tf.constant(np.stack(boxes), tf.float32), spec).numpy()
    grey = to_channels(read_image(path), spec.channels)
    expected = np.stack([warp_crop(grey, matrix, spec.crop.size_hw) for matrix in spec.crop.matrix(boxes)])
    off = np.abs(crops - expected)
    assert off.max() <= 2
    assert (off > 0).mean() < 0.02


@pytest.mark.parametrize("part", ["helen", "lfpw"])
def test_its_crops_of_published_photographs(shared_data, part) -> None:
    faces = load(f"ibug:{shared_data / 'ibug_300w' / part}")
    for row in np.random.default_rng(0).permutation(len(faces))[:8]:
        check_crops(Path(faces.paths[row]), faces.boxes[row : row + 1])


def test_models_of_whole_images_get_the_whole_image_for_each_box() -> None:
    import tensorflow as tf

    from kpdetect.exporters import photograph_signature

    boxes = photograph_signature._boxes(tf.zeros((30, 40, 1)), tf.zeros((2, 4)), CropRule((8, 8), 1.0, around="image"))
    np.testing.assert_array_equal(boxes, np.stack([image_box((30, 40))] * 2))


def test_no_box_gives_no_points(marks, tmp_path) -> None:
    drawn_photograph(tmp_path / "drawn.png", 64)
    found = marks(tmp_path / "drawn.png", np.zeros((0, 4)))
    assert found["keypoints"].shape == (0, 3, 2)
    assert found["uncertainty"].shape == (0, 3)


def test_exif_orientation_is_ignored(face_exports, marks, tmp_path) -> None:
    """Points are those of the stored pixels, like OpenCV without EXIF orientation."""
    path = tmp_path / "turned.jpg"
    boxes = drawn_photograph(path, 200)
    content = path.read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:])
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert not np.array_equal(stored[..., ::-1], read_image(path))
    faces = Predictor(face_exports / "small.tflite")(stored, boxes=boxes, bgr=True)
    found = marks(path, boxes)["keypoints"]
    np.testing.assert_allclose(found, np.stack([face.keypoints for face in faces]), atol=TOLERANCE_PX)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 9, 5, 5), (0, 0, np.nan, 5)])
def test_a_box_without_area_is_an_error(marks, tmp_path, box) -> None:
    import tensorflow as tf

    drawn_photograph(tmp_path / "drawn.png", 64)
    with pytest.raises(tf.errors.InvalidArgumentError, match=mentions("boxes", "x0 < x1", "y0 < y1")):
        marks(tmp_path / "drawn.png", [box])


def test_bytes_that_are_no_image_are_an_error(marks, tmp_path) -> None:
    import tensorflow as tf

    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        marks(tmp_path / "notes.txt", [(0, 0, 5, 5)])
