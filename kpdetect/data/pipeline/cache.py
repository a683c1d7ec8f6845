"""The cache of a training: every face is decoded and cropped once, into memory or into a folder."""

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect.core.atomic_write import atomic_folder
from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import Floats, Matrix, apply_matrix, tight_box
from kpdetect.core.images import Pixels
from kpdetect.data.annotations import Annotations
from kpdetect.data.crops import cut_crops, good_rows, shapes_of_photographs
from kpdetect.data.pipeline.cache_folder import (
    Canvases,
    new_images,
    origin_of,
    read_canvases,
    reusable_canvases,
    write_meta,
)
from kpdetect.data.pipeline.framing import FaceFraming, Framing

MEMORY_SHARE = 0.5
"""The largest share of the free memory that a cache may take; the model and its batches need the rest."""

ALIGNMENT = 64
"""Bytes. TensorFlow shares memory that starts at a multiple of this without a copy; the data of NumPy files does."""


@dataclass(frozen=True)
class FaceCache:
    """Decoded canvases of N faces, with their keypoints.

    Attributes:
        images: (N, h, w, C) uint8, in memory or mapped from a file.
        keypoints: (N, K, 2) float32, pixels of the canvas.
        visible: (N, K) bool.
        extents_hw: (N, 2) float32, the part of the canvas that the photograph covers; the rest is black.
        boxes: (N, 4) float32, the face boxes (x0, y0, x1, y1) in pixels of the canvas.
        rows: (N,) int64, the row of each face in the annotations.

    Example:
        ``len(cache)`` is the number of faces, ``cache.images[0]`` the first canvas.
    """

    images: Pixels
    keypoints: Floats
    visible: npt.NDArray[np.bool_]
    extents_hw: Floats
    boxes: Floats
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


def open_cache(
    annotations: Annotations, framing: Framing, channels: int, folder: Path | None = None, skip_bad: bool = False
) -> FaceCache:
    """Opens the cache in `folder` if it fits the faces; otherwise builds it.

    A cache fits if it was made from the same photographs (path, size and modification time), boxes and framing. The
    keypoints may differ. A path that is not a file, such as the address of a rendered face, must always give the same
    picture.

    Example::

        cache = open_cache(load("synthetic:100"), FaceFraming(CropRule((112, 112), 1.2)), 1, Path("faces-cache"))
        cache.images.shape  # (100, 158, 158, 1)

    Args:
        annotations: Labelled faces.
        framing: The part of each photograph that is kept.
        channels: 1 for grey, 3 for RGB.
        folder: The cache folder. None keeps the pictures in memory.
        skip_bad: Continue without images that cannot be read, and log them.

    Raises:
        DataError: See `build_cache`.
        KpdetectError: See `build_cache`; or the folder contains something else than a cache.
    """
    if folder is None:
        return build_cache(annotations, framing, channels, skip_bad=skip_bad)
    canvases = reusable_canvases(folder, origin_of(annotations, framing, channels), skip_bad)
    if canvases is None:
        return build_cache(annotations, framing, channels, folder, skip_bad=skip_bad)
    good_rows(annotations, canvases.problems)  # lists the faces that are missing
    return _with_labels(canvases, annotations)


def build_cache(
    annotations: Annotations,
    framing: Framing,
    channels: int,
    folder: Path | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
) -> FaceCache:
    """Decodes and crops every face once, with a progress bar.

    Args:
        annotations: Labelled faces.
        framing: The part of each photograph that is kept.
        channels: 1 for grey, 3 for RGB.
        folder: Keep the pictures in this folder, from which training maps them into memory. An older cache is replaced
            once the new one is complete. None keeps them in memory, where they may take half of what is free.
        workers: Threads; as many as processors by default.
        skip_bad: Continue without images that cannot be read, and list them on stderr.

    Raises:
        DataError: Images cannot be read, or boxes have no area; all of them are listed.
        KpdetectError: The pictures do not fit into memory or onto the disk, or no face is left.

    Example:
        ``cache = build_cache(load("synthetic:100"), FaceFraming(CropRule((112, 112), 1.2)), channels=1)``
    """
    if not len(annotations):
        raise KpdetectError(f"'{annotations.name}': no face to cache")
    origin = origin_of(annotations, framing, channels)  # the state of the files before they are read
    size_hw = framing.size_hw or _largest_extent(annotations, framing, workers)
    shape = (len(annotations), *size_hw, channels)
    if folder is None:
        _check_room(shape, available_memory() * MEMORY_SHARE, "half of the free memory: name a folder (--cache DIR)")
        return _with_labels(_fill(_aligned_zeros(shape), annotations, framing, workers, skip_bad), annotations)
    with atomic_folder(folder, overwrite=True) as temporary:
        _check_room(shape, shutil.disk_usage(temporary).free, f"free on the disk of {folder}: name another")
        canvases = _fill(new_images(temporary, shape), annotations, framing, workers, skip_bad)
        write_meta(temporary, canvases, origin)
    return _with_labels(read_canvases(folder)[0], annotations)


def _fill(images: Pixels, annotations: Annotations, framing: Framing, workers: int | None, skip_bad: bool) -> Canvases:
    """Decodes every face onto its canvas in `images`. Faces that cannot be read leave no gap."""
    size_hw = (images.shape[1], images.shape[2])
    matrices = np.zeros((len(images), 3, 3))
    extents = np.zeros((len(images), 2), np.float32)
    known = np.zeros(len(images), bool)  # matrices that do not depend on the photographs

    if isinstance(framing, FaceFraming):  # at once, which takes a hundredth of the time
        size = annotations.boxes[:, 2:] - annotations.boxes[:, :2]
        known[:] = (size > 0).all(axis=1) & np.isfinite(annotations.boxes).all(axis=1)
        matrices[known] = framing.matrix(annotations.boxes[known], (0, 0))

    def place(row: int, image_hw: tuple[int, int]) -> tuple[Matrix, tuple[int, int]]:
        height, width = framing.extent_hw(image_hw)
        if not known[row]:
            matrices[row] = framing.matrix(annotations.boxes[row], image_hw)
        extents[row] = height, width
        return matrices[row], (min(height, size_hw[0]), min(width, size_hw[1]))

    problems = cut_crops(annotations, place, images, "caching", workers)
    if problems and not skip_bad:
        raise DataError(list(dict.fromkeys(problems.values())))
    rows = good_rows(annotations, problems)
    for new, old in enumerate(rows.tolist()):  # in place, because a copy may not fit
        if new != old:
            images[new] = images[old]
    return Canvases(images[: len(rows)], matrices[rows], extents[rows], rows, problems)


def _with_labels(canvases: Canvases, annotations: Annotations) -> FaceCache:
    """Projects keypoints and boxes of the faces onto their canvases."""
    rows, matrices = canvases.rows, canvases.matrices
    corners = apply_matrix(matrices, annotations.boxes[rows].reshape(-1, 2, 2))
    return FaceCache(
        images=canvases.images,
        keypoints=apply_matrix(matrices, annotations.keypoints[rows]),
        visible=annotations.visible[rows],
        extents_hw=canvases.extents_hw,
        boxes=tight_box(corners),
        rows=rows,
    )


def _largest_extent(annotations: Annotations, framing: Framing, workers: int | None) -> tuple[int, int]:
    """The (height, width) of a canvas that every photograph fits on."""
    shapes = {(int(h), int(w)) for h, w in shapes_of_photographs(annotations, workers) if h > 0}
    extents = [framing.extent_hw(shape) for shape in shapes]
    return (max(h for h, _ in extents), max(w for _, w in extents)) if extents else (1, 1)


def _aligned_zeros(shape: tuple[int, ...]) -> Pixels:
    memory = np.zeros(math.prod(shape) + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + math.prod(shape)].reshape(shape)


def _check_room(shape: tuple[int, ...], room: float, place: str) -> None:
    """Raises an error if a uint8 array of `shape` needs more than `room` bytes."""
    if math.prod(shape) > room:
        size = "x".join(str(length) for length in shape)
        raise KpdetectError(
            f"the cache of {size} bytes needs {math.prod(shape) / 1e9:.2f} GB, but there are {room / 1e9:.2f} GB "
            f"{place}, or use smaller crops or fewer faces"
        )


def available_memory() -> float:
    """Bytes of memory that are free on Linux; elsewhere half of the memory of the machine.

    Returns infinity if the system does not report it.
    """
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024.0, _container_memory())
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (OSError, ValueError, AttributeError):
        return math.inf


def _container_memory() -> float:
    """Bytes that are left below the limit of a container (cgroup version 2)."""
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
        return float(int(limit) - int(used))
    except (OSError, ValueError):  # no container, or "max"
        return math.inf
