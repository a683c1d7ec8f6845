"""Caches and batches: contents, order, and batches that depend only on seed and step."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from messages import lines_with, mentions

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import CropRule, apply_matrix, tight_box, to_pixels
from kpdetect.core.images import cv2, read_image, write_image
from kpdetect.core.schema import IBUG68, KeypointSchema
from kpdetect.data.annotations import Annotations
from kpdetect.data.augmentation import Blur, CropToBox, RandomCrop, RandomFlip
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.pipeline import (
    BatchOptions,
    FaceFraming,
    ImageFraming,
    Share,
    build_cache,
    cache,
    training_batches,
)
from kpdetect.data.pipeline.batches import as_tensors, shuffled_rows
from kpdetect.recipes.own import compact_112
from kpdetect.training.feeding import transforms_of

TRIANGLE = KeypointSchema("triangle", ("left", "right", "tip"), flip_permutation=(1, 0, 2))
CROP = CropRule((32, 40), 1.3)
EVERYTHING = transforms_of(dataclasses.replace(compact_112(), crop=CROP), TRIANGLE)


def picture(path):
    """A different smooth photograph for every path; paths with `broken` raise an error."""
    if "broken" in path:
        raise KpdetectError(f"{path}: expected an image")
    number = int(path.split("-")[1])
    height, width = 90 + 7 * (number % 5), 120 + 11 * (number % 3)
    y, x = np.mgrid[:height, :width]
    waves = [130 + 60 * np.sin(x / (9 + channel) + number) + 50 * np.cos(y / 10 + number) for channel in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def annotated(count, read=picture, paths=None):
    rng = np.random.default_rng(4)
    center = rng.uniform((45, 40), (75, 55), (count, 1, 2))
    points = (center + np.array([[20, -15], [-20, -15], [0, 22]]) + rng.uniform(-4, 4, (count, 3, 2))).astype(
        np.float32
    )
    visible = np.ones((count, 3), bool)
    visible[::2, 0] = False
    names = np.array(paths or [f"photo-{i}" for i in range(count)])
    return Annotations(TRIANGLE, "faces", names, points, visible, tight_box(points), names, read=read)


def first_batches(faces, transforms, options, count=3):
    batches = iter(training_batches(faces, transforms, TRIANGLE, options))
    return [tuple(part.numpy() for part in next(batches)) for _ in range(count)]


def assert_same(first, second):
    for here, there in zip(first, second, strict=True):
        for a, b in zip(here, there, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_centre_of_the_canvas_is_the_crop_of_evaluation():
    faces = annotated(9)
    for channels in (1, 3):
        made = build_cache(faces, FaceFraming(CROP, 1.5), channels)
        crops, relative, matrices = evaluation_crops(faces, CROP, channels)
        assert made.images.shape == (9, 48, 60, channels)
        assert crops.shape == (9, 32, 40, channels)
        difference = np.abs(made.images[:, 8:-8, 10:-10].astype(int) - crops)
        assert difference.max() <= 2
        np.testing.assert_allclose(made.keypoints - (10, 8), to_pixels(relative, CROP.size_hw), atol=1e-3)
        moved = apply_matrix(np.linalg.inv(matrices), to_pixels(relative, CROP.size_hw))
        np.testing.assert_allclose(moved, faces.keypoints, atol=1e-3)


def test_training_without_augmentation_has_the_crops_of_evaluation():
    faces = annotated(5)
    made = build_cache(faces, FaceFraming(CROP), 1)
    options = BatchOptions(CROP.size_hw, 5, seed=3)
    images, keypoints, visible = first_batches(made, (), options, 1)[0]
    rows = shuffled_rows(tf.constant(0, tf.int64), 5, options).numpy()
    crops, relative, _ = evaluation_crops(faces, CROP, 1)
    assert sorted(rows) == [0, 1, 2, 3, 4]
    assert np.abs(images - crops[rows]).max() <= 2
    np.testing.assert_allclose(keypoints, relative[rows], atol=1e-5)
    np.testing.assert_array_equal(visible, faces.visible[rows].astype(np.float32))


def test_a_batch_depends_on_seed_and_step_only():
    made = build_cache(annotated(11), FaceFraming(CROP), 1)
    transforms = EVERYTHING
    whole = first_batches(made, transforms, BatchOptions(CROP.size_hw, 4, seed=5), 6)
    assert_same(whole, first_batches(made, transforms, BatchOptions(CROP.size_hw, 4, seed=5), 6))
    assert_same(whole[4:], first_batches(made, transforms, BatchOptions(CROP.size_hw, 4, seed=5, start_step=4), 2))
    other = first_batches(made, transforms, BatchOptions(CROP.size_hw, 4, seed=6), 6)
    assert all(np.abs(a[0] - b[0]).max() > 5 for a, b in zip(whole, other, strict=True))
    images, keypoints, visible = whole[0]
    assert (images.dtype, keypoints.dtype, visible.dtype) == (np.float32, np.float32, np.float32)
    assert images.shape == (4, 32, 40, 1)


def test_batches_of_several_processes_are_bit_identical_to_those_of_one():
    made = build_cache(annotated(11), FaceFraming(CROP), 1)
    transforms = (*EVERYTHING, Blur(0.6))
    whole = first_batches(made, transforms, BatchOptions(CROP.size_hw, 6, seed=5, start_step=2), 3)
    for number in range(3):
        options = BatchOptions(CROP.size_hw, 6, seed=5, start_step=2, share=Share(number, 3))
        assert_same(
            first_batches(made, transforms, options, 3), [[p[2 * number :][:2] for p in batch] for batch in whole]
        )
    with pytest.raises(KpdetectError, match=mentions("4", "6")):
        BatchOptions(CROP.size_hw, 6, share=Share(1, 4))


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (3, 8), (8, 8), (11, 4)])
def test_every_epoch_has_every_face_once(count, batch_size):
    options = BatchOptions(CROP.size_hw, batch_size, seed=1)
    stream = np.concatenate([shuffled_rows(tf.constant(n, tf.int64), count, options).numpy() for n in range(12)])
    epochs = stream[: len(stream) // count * count].reshape(-1, count)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(count), (len(epochs), 1)))
    assert len(np.unique(epochs, axis=0)) > (1 if count > 1 else 0)


def test_fewer_faces_than_a_batch():
    made = build_cache(annotated(2), FaceFraming(CROP), 1)
    images, _, _ = first_batches(made, EVERYTHING, BatchOptions(CROP.size_hw, 7), 2)[1]
    assert images.shape == (7, 32, 40, 1)


def test_shapes_are_static_for_keras():
    made = build_cache(annotated(3), FaceFraming(CROP), 3)
    spec = training_batches(made, EVERYTHING, TRIANGLE, BatchOptions(CROP.size_hw, 4)).element_spec
    assert [tuple(part.shape) for part in spec] == [(4, 32, 40, 3), (4, 3, 2), (4, 3)]


@pytest.mark.parametrize("side", [200, 900])
def test_crops_of_jpeg_files_are_those_of_evaluation(tmp_path, side):
    """The cache decodes grey, and large photographs at a fraction of their size; the points stay where they are."""
    faces, paths = annotated(4), []
    scale = side / 120
    for row in range(4):
        photograph = cv2.resize(picture(f"photo-{row}"), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        paths.append(str(tmp_path / f"{row}.jpg"))
        write_image(paths[-1], photograph)
    points = (faces.keypoints + 0.5) * scale - 0.5
    files = dataclasses.replace(
        faces, paths=np.array(paths), keypoints=points, boxes=tight_box(points), read=read_image
    )
    for channels in (1, 3):
        made = build_cache(files, FaceFraming(CROP, 1.5), channels)
        crops, relative, _ = evaluation_crops(files, CROP, channels)
        np.testing.assert_allclose(made.keypoints - (10, 8), to_pixels(relative, CROP.size_hw), atol=1e-3)
        assert np.abs(made.images[:, 8:-8, 10:-10].astype(int) - crops).mean() < 0.7
    made = build_cache(files, ImageFraming(60, (48, 52)), 1)
    shapes = [read_image(path).shape[:2] for path in paths]
    np.testing.assert_array_equal(made.extents_hw, [ImageFraming(60, (48, 52)).extent_hw(shape) for shape in shapes])


def test_a_damaged_file_is_named_and_its_canvas_left_out(tmp_path):
    paths = [str(tmp_path / f"{row}.jpg") for row in range(3)]
    for row in (0, 2):
        write_image(paths[row], picture(f"photo-{row}"))
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8\xff no picture")
    faces = dataclasses.replace(annotated(3), paths=np.array(paths), read=read_image)
    for framing in (FaceFraming(CROP), ImageFraming(64, (48, 48))):
        with pytest.raises(DataError) as caught:
            build_cache(faces, framing, 1)
        assert [problem.split(":")[0] for problem in caught.value.problems] == [paths[1]]
        np.testing.assert_array_equal(build_cache(faces, framing, 1, skip_bad=True).rows, [0, 2])


def test_all_broken_images_are_named_together(tmp_path):
    faces = annotated(6, paths=["photo-0", "broken-1", "photo-2", "photo-3", "broken-4", "broken-4"])
    for attempt in (
        lambda: build_cache(faces, FaceFraming(CROP), 1, tmp_path / "cache"),
        lambda: build_cache(faces, ImageFraming(64, (48, 48)), 1),
        lambda: evaluation_crops(faces, CROP, 1),
    ):
        with pytest.raises(DataError) as caught:
            attempt()
        assert {problem.split(":")[0] for problem in caught.value.problems} == {"broken-1", "broken-4"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("in_file", [False, True])
def test_skipping_broken_images_reports_their_number(tmp_path, capsys, in_file):
    paths = ["broken-0", "photo-1", "photo-2", "broken-3", "photo-4"]
    file = tmp_path / "cache" if in_file else None
    made = build_cache(annotated(5, paths=paths), FaceFraming(CROP), 1, file, skip_bad=True)
    assert lines_with(capsys.readouterr().err, "2", "5")
    whole = build_cache(annotated(5), FaceFraming(CROP), 1)
    np.testing.assert_array_equal(made.rows, [1, 2, 4])
    assert len(made) == 3
    for attribute in ("images", "keypoints", "visible", "boxes", "extents_hw"):
        np.testing.assert_array_equal(getattr(made, attribute), getattr(whole, attribute)[made.rows])
    with pytest.raises(DataError):
        build_cache(annotated(2, paths=["broken-0", "broken-1"]), FaceFraming(CROP), 1, skip_bad=True)


def test_a_box_without_area_is_named_by_its_file():
    faces = annotated(3)
    faces.boxes[1] = [10, 10, 10, 20]
    with pytest.raises(DataError, match=mentions("photo-1", "[10.0, 10.0, 10.0, 20.0]")):
        build_cache(faces, FaceFraming(CROP), 1)


def test_a_cache_in_files_equals_one_in_memory(tmp_path):
    faces = annotated(7)
    in_memory = build_cache(faces, FaceFraming(CROP), 1, workers=1)
    mapped = build_cache(faces, FaceFraming(CROP), 1, tmp_path / "cache", workers=4)
    assert isinstance(mapped.images, np.memmap)
    np.testing.assert_array_equal(mapped.images, in_memory.images)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    options = BatchOptions(CROP.size_hw, 3)
    assert_same(first_batches(mapped, (), options), first_batches(in_memory, (), options))


@pytest.mark.parametrize("in_file", [False, True])
def test_tensorflow_shares_the_memory_of_the_cache(tmp_path, in_file):
    made = build_cache(annotated(3), FaceFraming(CROP), 1, tmp_path / "cache" if in_file else None)
    shared = as_tensors(made).images
    made.images[2] = 77
    assert (shared[2].numpy() == 77).all()
    odd = dataclasses.replace(made, images=made.images[:, :, 1:])
    np.testing.assert_array_equal(as_tensors(odd).images, odd.images)


@pytest.mark.slow
def test_a_program_with_open_batches_ends():
    """Threads of TensorFlow that wait for Python could block the exit."""
    code = (
        "import numpy as np\n"
        "from kpdetect.data.pipeline import BatchOptions, FaceCache, training_batches\n"
        "from kpdetect.core.schema import user_schema\n"
        "zeros = lambda *shape: np.zeros(shape, np.float32)\n"
        "faces = FaceCache(np.zeros((4, 16, 16, 1), np.uint8), zeros(4, 1, 2), zeros(4, 1) == 0,\n"
        "                  zeros(4, 2) + 16, zeros(4, 4), np.arange(4))\n"
        "batches = iter(training_batches(faces, (), user_schema(['nose']), BatchOptions((8, 8), 2)))\n"
        "print(next(batches)[0].shape)\n"
    )
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "(2, 8, 8, 1)" in done.stdout


def test_a_cache_that_does_not_fit_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "available_memory", lambda: 5000.0)
    with pytest.raises(KpdetectError, match=mentions("7x46x56x1", "0.00 GB", "--cache")):
        build_cache(annotated(7), FaceFraming(CROP), 1)
    assert len(build_cache(annotated(7), FaceFraming(CROP), 1, tmp_path / "cache")) == 7
    monkeypatch.undo()
    assert cache.available_memory() > 1e6


def test_a_photograph_with_several_faces_is_read_once():
    seen, lock = [], threading.Lock()

    def read(path):
        with lock:
            seen.append(path)
        return picture(path)

    faces = annotated(6, read, [f"photo-{i // 3}" for i in range(6)])
    evaluation_crops(faces, CROP, 1)
    assert sorted(seen) == ["photo-0", "photo-1"]


def test_whole_images_keep_their_shape_and_crops_are_inside():
    faces = annotated(8, read=lambda path: np.maximum(picture(path), 1))
    made = build_cache(faces, ImageFraming(60, (48, 52)), 1)
    heights, widths = made.extents_hw.T
    np.testing.assert_array_equal(np.minimum(heights, widths), np.full(8, 60))
    assert made.images.shape[1:3] == (heights.max(), widths.max())
    for row in range(8):
        photograph = picture(f"photo-{row}")
        scale_xy = made.extents_hw[row, ::-1] / photograph.shape[1::-1]
        np.testing.assert_allclose(made.keypoints[row], (faces.keypoints[row] + 0.5) * scale_xy - 0.5, atol=1e-3)
    options = BatchOptions((48, 52), 8)
    for images, _, _ in first_batches(made, (RandomCrop((48, 52)), RandomFlip()), options):
        assert images.min() >= 1
    pair = build_cache(faces, ImageFraming((50, 70), (48, 52)), 3)
    assert pair.images.shape == (8, 50, 70, 3)


def test_crop_to_box_of_whole_images_is_the_crop_rule():
    faces = annotated(5)
    made = build_cache(faces, ImageFraming(90, (32, 40)), 1)
    rule = CropToBox(CROP.size_hw, CROP.margin)
    options = BatchOptions(CROP.size_hw, 5)
    _, keypoints, _ = first_batches(made, (rule,), options, 1)[0]
    rows = shuffled_rows(tf.constant(0, tf.int64), 5, options).numpy()
    np.testing.assert_allclose(keypoints, evaluation_crops(faces, CROP, 1)[1][rows], atol=0.01)


def test_evaluation_by_other_boxes():
    faces = annotated(3)
    moved = faces.boxes + np.float32([4, 6, 4, 6])
    crops, relative, matrices = evaluation_crops(faces, CROP, 3, moved)
    np.testing.assert_allclose(matrices, CROP.matrix(moved))
    assert np.abs(relative - evaluation_crops(faces, CROP, 3)[1]).max() > 0.05
    assert crops.dtype == np.uint8


def test_options_are_checked():
    made = build_cache(annotated(2), FaceFraming(CROP), 1)
    for wrong in ({"batch_size": 0}, {"batch_size": 2, "start_step": -1}):
        with pytest.raises(KpdetectError, match=mentions(*(f"{name}={value}" for name, value in wrong.items()))):
            BatchOptions(CROP.size_hw, **wrong)
    with pytest.raises(KpdetectError, match=mentions("context", "1", "0.9")):
        FaceFraming(CROP, 0.9)
    with pytest.raises(KpdetectError, match=mentions("40", "48")):
        ImageFraming(40, (48, 48))
    nameless = KeypointSchema("mine", ("a", "b", "c"))
    with pytest.raises(KpdetectError, match=mentions("RandomFlip", "mine")):
        training_batches(made, (RandomFlip(),), nameless, BatchOptions(CROP.size_hw, 2))


def test_published_frames(shared_data):
    folder = shared_data / "youtube_faces" / "training"
    files = sorted(folder.glob("*.jpg"))[:120:12]
    if not files:
        pytest.skip(f"no frames in {folder}")
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 70, (len(files), 68, 2)).astype(np.float32)
    names = np.array([str(file) for file in files])
    faces = Annotations(IBUG68, "frames", names, points, np.ones((len(files), 68), bool), tight_box(points), names)
    made = build_cache(faces, FaceFraming(CropRule((112, 112), 1.35)), 1)
    options = BatchOptions((112, 112), 16)
    images, _, _ = next(iter(training_batches(made, transforms_of(compact_112(), IBUG68), IBUG68, options)))
    assert np.std(images) > 10
