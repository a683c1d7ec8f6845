"""Owns the cache: every face decoded and cropped once, as bytes in memory or in a file."""

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import Floats, apply_matrix, tight_box
from kpdetect.core.images import Pixels, warp_crop
from kpdetect.data.annotations import Annotations
from kpdetect.data.crops import good_rows, shapes_of_photographs, visit_photographs
from kpdetect.data.pipeline.cache_file import (
    Canvases,
    file_to_seal,
    new_map,
    open_canvases,
    origin_of,
    seal,
    usable_canvases,
)
from kpdetect.data.pipeline.framing import Framing

MEMORY_SHARE = 0.5
"""The share of the memory that is free now which a cache may take; the model and its batches need the rest."""

ALIGNMENT = 64
"""Bytes; TensorFlow takes over memory that begins on such a border without a copy, and NumPy's files do."""


@dataclass(frozen=True)
class FaceCache:
    """Decoded canvases and the points on them, N faces.

    Attributes:
        images: (N, h, w, C) uint8, in memory or mapped from a file.
        keypoints: (N, K, 2) float32, in the canvas's pixels.
        visible: (N, K) bool.
        extents_hw: (N, 2) float32, what the photograph takes of the canvas; the rest is black.
        boxes: (N, 4) float32, the face boxes on the canvas, as (x0, y0, x1, y1).
        rows: (N,) int64, which row of the annotations each face is.
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
    annotations: Annotations, framing: Framing, channels: int, file: Path | None = None, skip_bad: bool = False
) -> FaceCache:
    """The cache of a file that was made of the same photographs in the same way, or else one that is built anew.

    A photograph is the same whose path, size and time of change are; what is no file must give the same picture for
    the same path for ever. The points may be others.

    Args:
        annotations: As `build_cache` takes them; so the others.
        framing: What is kept of each photograph.
        channels: 1 for grey, 3 for RGB.
        file: Where the pictures are, or will be. None keeps them in memory.
        skip_bad: Go on without images that cannot be read, and name them on stderr.

    Raises:
        DataError: As `build_cache`.
        KpdetectError: As `build_cache`; or the file holds something else than a cache.
    """
    if file is None:
        return build_cache(annotations, framing, channels, skip_bad=skip_bad)
    usable = usable_canvases(file, origin_of(annotations, framing, channels), skip_bad)
    if usable is None:
        return build_cache(annotations, framing, channels, file, skip_bad=skip_bad)
    good_rows(annotations, usable.problems)  # tells whom it goes without
    return _faces_on(usable, annotations)


def build_cache(
    annotations: Annotations,
    framing: Framing,
    channels: int,
    file: Path | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
) -> FaceCache:
    """Decodes and crops every face once, with a bar on stderr.

    Args:
        annotations: Labelled faces.
        framing: What is kept of each photograph. Where the canvas's size depends on the photographs, they are decoded
            twice: to find the greatest extent, and to fill the canvases.
        channels: 1 for grey, 3 for RGB.
        file: Keep the pictures in this file, which training then maps into memory; an older one is replaced, once
            the new one is whole. None keeps them in memory, and they may take half of what is free (`MEMORY_SHARE`).
        workers: Threads; as many as processors by default.
        skip_bad: Go on without images that cannot be read, and name them on stderr.

    Raises:
        DataError: Images cannot be read, or boxes have no area; all of them are named.
        KpdetectError: The pictures do not fit into memory or onto the disk, or no face is left.
    """
    if not len(annotations):
        raise KpdetectError(f"'{annotations.name}': no face to cache")
    made_of = None if file is None else origin_of(annotations, framing, channels)  # as they are before they are read
    size_hw = framing.size_hw or _greatest_extent(annotations, framing, workers)
    shape = (len(annotations), *size_hw, channels)
    if file is None or made_of is None:
        _check_room(shape, available_memory() * MEMORY_SHARE, "half of the free memory: name a file (--cache FILE)")
        return _faces_on(_filled(_aligned_zeros(shape), annotations, framing, workers, skip_bad), annotations)
    with file_to_seal(file) as temporary:
        _check_room(shape, shutil.disk_usage(temporary.parent).free, f"free on the disk of {file}: name another")
        seal(temporary, _filled(new_map(temporary, shape), annotations, framing, workers, skip_bad), made_of)
    return _faces_on(open_canvases(file), annotations)


def _filled(
    images: Pixels, annotations: Annotations, framing: Framing, workers: int | None, skip_bad: bool
) -> Canvases:
    """Decodes every face onto its canvas of `images`; those that were read come first."""
    size_hw, channels = (images.shape[1], images.shape[2]), images.shape[3]
    matrices = np.zeros((len(images), 3, 3))
    extents = np.zeros((len(images), 2), np.float32)

    def fill(row: int, photograph: Pixels) -> None:
        image_hw = (photograph.shape[0], photograph.shape[1])
        matrices[row] = framing.matrix(annotations.boxes[row], image_hw)
        extents[row] = framing.extent_hw(image_hw)
        images[row] = warp_crop(photograph, matrices[row], size_hw, channels)

    problems = visit_photographs(annotations, fill, "caching", workers)
    if problems and not skip_bad:
        raise DataError(list(dict.fromkeys(problems.values())))
    rows = good_rows(annotations, problems)
    _close_ranks(images, rows)
    return Canvases(images[: len(rows)], matrices[rows], extents[rows], rows, problems)


def _faces_on(canvases: Canvases, annotations: Annotations) -> FaceCache:
    """The faces with their points and boxes on the canvases."""
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


def _greatest_extent(annotations: Annotations, framing: Framing, workers: int | None) -> tuple[int, int]:
    shapes = {(int(h), int(w)) for h, w in shapes_of_photographs(annotations, workers) if h > 0}
    extents = [framing.extent_hw(shape) for shape in shapes]
    return (max(h for h, _ in extents), max(w for _, w in extents)) if extents else (1, 1)


def _close_ranks(images: Pixels, rows: npt.NDArray[np.int64]) -> None:
    """Moves the good rows to the front in place, since a copy may not fit."""
    for new, old in enumerate(rows.tolist()):
        if new != old:
            images[new] = images[old]


def _aligned_zeros(shape: tuple[int, ...]) -> Pixels:
    memory = np.zeros(math.prod(shape) + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + math.prod(shape)].reshape(shape)


def _check_room(shape: tuple[int, ...], room: float, where_and_way_out: str) -> None:
    if math.prod(shape) > room:
        size = "x".join(str(length) for length in shape)
        raise KpdetectError(
            f"the cache of {size} bytes needs {math.prod(shape) / 1e9:.2f} GB, but there are {room / 1e9:.2f} GB "
            f"{where_and_way_out}, or use smaller crops or fewer faces"
        )


def available_memory() -> float:
    """Bytes of memory that programs can still take: Linux tells; elsewhere half of what the machine has."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024.0, _container_memory())
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (OSError, ValueError, AttributeError):
        return math.inf  # nobody says; the allocation itself will


def _container_memory() -> float:
    """What a container's limit (cgroup version 2) leaves."""
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
        return float(int(limit) - int(used))
    except (OSError, ValueError):  # no container, or "max"
        return math.inf
