"""The cache folder: reused for the same photographs, rebuilt for others or if damaged, with constant memory."""

import ctypes
import dataclasses
import gc
import os
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.images import Pixels, write_image
from kpdetect.data import Annotations, crops, load, read_csv
from kpdetect.data.pipeline import (
    BatchOptions,
    FaceCache,
    FaceFraming,
    build_cache,
    open_cache,
    training_batches,
)
from kpdetect.evaluation.latency.memory import resident_memory

FRAMING = FaceFraming(CropRule((24, 24), 1.3))
SOME = 6


@pytest.fixture
def faces(tmp_path: Path) -> Annotations:
    """Synthetic faces in files with an old modification time, so that later changes are detected."""
    drawn = load(f"synthetic:{SOME}")
    files = [tmp_path / "photos" / f"face{row}.bmp" for row in range(SOME)]
    for file, address in zip(files, drawn.paths.tolist(), strict=True):
        write_image(file, drawn.read(address))
        os.utime(file, (1e9, 1e9))
    paths = np.array([str(file) for file in files])
    return dataclasses.replace(Annotations(drawn.schema, "files", paths, *arrays_of(drawn)), subjects=paths)


def arrays_of(faces: Annotations) -> tuple[np.ndarray, ...]:
    return faces.keypoints, faces.visible, faces.boxes, faces.subjects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def unread(path: str) -> Pixels:
    raise AssertionError(f"{path} was read")


def assert_same(here: FaceCache, there: FaceCache) -> None:
    for field in dataclasses.fields(FaceCache):
        np.testing.assert_array_equal(getattr(here, field.name), getattr(there, field.name))


def test_the_same_faces_reuse_the_cache(faces: Annotations, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = open_cache(faces, FRAMING, 1, folder)
    stamp = (folder / "images.npy").stat().st_mtime_ns
    again = open_cache(dataclasses.replace(faces, read=unread), FRAMING, 1, folder)
    assert_same(first, again)
    assert isinstance(again.images, np.memmap)
    assert lines_with(capsys.readouterr().err, str(folder), str(SOME))
    assert (folder / "images.npy").stat().st_mtime_ns == stamp
    again.images[0] = 7  # of this training only
    assert_same(first, open_cache(faces, FRAMING, 1, folder))


def test_other_keypoints_reuse_the_cached_images(faces: Annotations, folder: Path) -> None:
    open_cache(faces, FRAMING, 1, folder)
    moved = dataclasses.replace(faces, keypoints=faces.keypoints + 3, visible=faces.visible.copy())
    moved.visible[2, :5] = False
    assert_same(open_cache(dataclasses.replace(moved, read=unread), FRAMING, 1, folder), build_cache(moved, FRAMING, 1))


def repainted(faces: Annotations) -> Annotations:
    """Replaces one photograph; a BMP of the same size has the same number of bytes."""
    size = Path(faces.paths[3]).stat().st_size
    write_image(faces.paths[3], 255 - faces.read(faces.paths[3]))
    assert Path(faces.paths[3]).stat().st_size == size
    return faces


def with_other_boxes(faces: Annotations) -> Annotations:
    return dataclasses.replace(faces, boxes=faces.boxes + np.float32([0, 0, 0, 1]))


@pytest.mark.parametrize(
    ("change", "framing", "channels", "reasons"),
    [
        (repainted, FRAMING, 1, ["photographs"]),
        (with_other_boxes, FRAMING, 1, ["boxes"]),
        (lambda faces: faces.take(range(4)), FRAMING, 1, ["photographs", "boxes"]),
        (lambda faces: faces.take([1, 0, 2, 3, 4, 5]), FRAMING, 1, ["photographs", "boxes"]),
        (lambda faces: faces, FaceFraming(CropRule((24, 24), 1.4)), 1, ["framing"]),
        (lambda faces: faces, FRAMING, 3, ["channels"]),
    ],
)
def test_a_cache_of_other_photographs_or_settings_is_rebuilt(
    change: Callable[[Annotations], Annotations],
    framing: FaceFraming,
    channels: int,
    reasons: list[str],
    faces: Annotations,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    open_cache(faces, FRAMING, 1, folder)
    other = change(faces)
    assert_same(open_cache(other, framing, channels, folder), build_cache(other, framing, channels))
    assert lines_with(capsys.readouterr().err, str(folder), *reasons)
    assert_same(
        open_cache(dataclasses.replace(other, read=unread), framing, channels, folder),
        build_cache(other, framing, channels),
    )


@pytest.mark.parametrize("name", ["images.npy", "meta.npz"])
@pytest.mark.parametrize("kept", [0, 0.4, 0.999])
def test_a_damaged_cache_is_built_again(name: str, kept: float, faces: Annotations, folder: Path) -> None:
    whole = open_cache(faces, FRAMING, 1, folder)
    file = folder / name
    data = file.read_bytes()
    os.unlink(file)  # `whole` still has it memory-mapped
    file.write_bytes(data[: int(kept * len(data))])
    assert_same(open_cache(faces, FRAMING, 1, folder), whole)
    assert_same(open_cache(dataclasses.replace(faces, read=unread), FRAMING, 1, folder), whole)


def test_a_file_that_is_no_cache_is_unchanged(faces: Annotations, folder: Path) -> None:
    folder.write_text("image,nose_x,nose_y\n")
    with pytest.raises(KpdetectError, match=mentions(str(folder), "--cache")):
        open_cache(faces, FRAMING, 1, folder)
    assert folder.read_text() == "image,nose_x,nose_y\n"


def test_a_folder_that_is_no_cache_is_unchanged(faces: Annotations, folder: Path) -> None:
    with pytest.raises(KpdetectError, match=mentions(str(folder.parent), "--cache")):
        open_cache(faces, FRAMING, 1, folder.parent)  # the photographs are in it
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_a_read_only_cache_is_reused(faces: Annotations, tmp_path: Path) -> None:
    folder = tmp_path / "shared" / "cache"
    whole = open_cache(faces, FRAMING, 1, folder)
    places = (folder, folder.parent)
    for place in places:
        place.chmod(0o555)
    try:
        assert_same(open_cache(dataclasses.replace(faces, read=unread), FRAMING, 1, folder), whole)
    finally:
        for place in places:
            place.chmod(0o755)


def test_unreadable_photographs_are_reported_again_or_read_again(
    faces: Annotations, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(faces.paths[2]).write_bytes(b"half a photograph")
    first = open_cache(faces, FRAMING, 1, folder, skip_bad=True)
    assert first.rows.tolist() == [0, 1, 3, 4, 5]
    said = capsys.readouterr().err
    again = open_cache(dataclasses.replace(faces, read=unread), FRAMING, 1, folder, skip_bad=True)
    assert_same(first, again)
    for text in (said, capsys.readouterr().err):
        assert lines_with(text, "files", "1", str(SOME))
        assert lines_with(text, str(faces.paths[2]))
    with pytest.raises(DataError, match=r"face2\.bmp"):
        open_cache(faces, FRAMING, 1, folder)
    assert lines_with(capsys.readouterr().err, str(folder), "1")
    assert_same(open_cache(dataclasses.replace(faces, read=unread), FRAMING, 1, folder, skip_bad=True), first)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_the_older_cache_is_kept(faces: Annotations, folder: Path) -> None:
    whole = open_cache(faces, FRAMING, 1, folder)
    with files_no_larger_than(3000), pytest.raises(KpdetectError, match=mentions(str(folder), "File too large")):
        open_cache(faces, FRAMING, 3, folder)
    assert {path.name for path in folder.parent.iterdir()} == {"photos", "cache"}
    assert_same(open_cache(dataclasses.replace(faces, read=unread), FRAMING, 1, folder), whole)


def test_disk_space_is_allocated_in_advance(faces: Annotations, folder: Path) -> None:
    """Writing to a memory map on a full disk ends the process with SIGBUS, without a message."""
    build_cache(faces.take([0]), FaceFraming(CropRule((512, 512), 1.3)), 1, folder)
    stat = (folder / "images.npy").stat()
    assert 512 * stat.st_blocks >= stat.st_size > 512**2


def many(count: int) -> Annotations:
    """Different grey photographs with one face each, created when they are read."""
    one = load("synthetic:1")
    names = np.array([str(row) for row in range(count)])
    keypoints, boxes = (np.repeat(array / 2, count, axis=0) for array in (one.keypoints, one.boxes))
    visible = np.ones(keypoints.shape[:2], bool)
    return Annotations(
        one.schema, "many", names, keypoints, visible, boxes, names, read=lambda path: np.full((64, 64, 3), 7, np.uint8)
    )


def own_memory() -> float:
    """Private memory of this process in megabytes, after the C library has released free memory."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    held = resident_memory()
    assert held is not None
    return held.anonymous / 1e6


def grown_by_an_epoch(count: int, folder: Path | None) -> float:
    """Growth of memory in megabytes by caching faces and iterating over them once."""
    before, faces = own_memory(), many(count)
    cache = build_cache(faces, FaceFraming(CropRule((200, 200), 1.3), 1.0), 1, folder)
    batches = training_batches(cache, (), faces.schema, BatchOptions((200, 200), 25))
    for images, _, _ in batches.take(count // 25):
        assert images.shape == (25, 200, 200, 1)
    return own_memory() - before


@pytest.mark.slow
@pytest.mark.skipif(resident_memory() is None, reason="the system does not report the memory of a process")
def test_memory_is_constant_with_a_cache_folder(tmp_path: Path) -> None:
    """1,000 canvases are 40 MB; threads and allocators add noise, most of it in the first epochs."""
    grown_by_an_epoch(100, tmp_path / "few")
    in_file = min(grown_by_an_epoch(1000, tmp_path / f"more{turn}") for turn in range(3))
    in_memory = grown_by_an_epoch(1000, None)
    assert (tmp_path / "more0" / "images.npy").stat().st_size > 40e6
    assert in_file < 20
    assert in_memory > 35  # the measurement is valid


def test_photographs_are_not_queued_all_at_once() -> None:
    """`map` of a pool would queue all photographs at once: gigabytes of futures for a million."""
    taken: list[int] = []

    def jobs() -> Iterator[tuple[str, list[int]]]:
        for number in range(1000):
            taken.append(number)
            yield str(number), [number]

    done = crops._in_threads(lambda job: None, jobs(), 2)
    for finished, _ in enumerate(done, start=1):
        assert len(taken) <= finished + 2 * crops.JOBS_AHEAD
    assert finished == len(taken) == 1000


def test_a_csv_is_read_row_by_row(tmp_path: Path) -> None:
    """As text the numbers of 300 faces take 2.4 MB."""
    write_image(tmp_path / "face.png", np.zeros((100, 100, 3), np.uint8))
    row = "face.png," + ",".join(f"{value:.2f}" for value in np.linspace(1, 99, 136))
    (tmp_path / "faces.csv").write_text("\n".join([row] * 300) + "\n")
    tracemalloc.start()
    try:
        faces = read_csv(str(tmp_path / "faces.csv"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(faces) == 300
    assert peak < 1.5e6
