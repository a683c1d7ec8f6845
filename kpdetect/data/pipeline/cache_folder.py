"""Storage of decoded crops on disk: a folder with ``images.npy``, which is memory-mapped, and ``meta.npz``."""

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect import __version__
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, Matrix
from kpdetect.core.images import Pixels
from kpdetect.data.annotations import Annotations
from kpdetect.data.pipeline.framing import Framing

_LOG = logging.getLogger(__name__)

FORMAT = 4
"""Increased whenever the same photograph would give another canvas, or the layout of the folder changes."""

IMAGES_FILE, META_FILE = "images.npy", "meta.npz"

Origin = dict[str, str | int]
"""What canvases were made from: a value for each name that a message can mention."""


@dataclass(frozen=True)
class Canvases:
    """Decoded pictures of M of N faces.

    A canvas contains the model's crop and a margin around it, so that augmentation can move, turn and scale the crop.

    Attributes:
        images: (M, h, w, C) uint8, in memory or mapped from a file.
        matrices: (M, 3, 3) float64, photograph to canvas.
        extents_hw: (M, 2) float32, the part of the canvas that the photograph covers.
        rows: (M,) int64, the row of each face among the N.
        problems: The reason why a face is missing, by row.
    """

    images: Pixels
    matrices: Matrix
    extents_hw: Floats
    rows: npt.NDArray[np.int64]
    problems: Mapping[int, str]


def origin_of(annotations: Annotations, framing: Framing, channels: int) -> Origin:
    """Describes what the canvases of these faces are made from, to decide whether a cache can be used again.

    A photograph in a file is identified by its path, size and modification time; a rendered face by its address.
    Keypoints are not part of it, because they are projected onto the canvases whenever a cache is opened.
    """
    photographs = hashlib.sha256()
    for path in annotations.paths.tolist():
        photographs.update(_stamp(path).encode(errors="surrogatepass"))
    return {
        "format": FORMAT,
        "kpdetect": __version__,
        "number of faces": len(annotations),
        "photographs": photographs.hexdigest(),
        "face boxes": hashlib.sha256(np.ascontiguousarray(annotations.boxes).tobytes()).hexdigest(),
        "framing": repr(framing),
        "channels": channels,
    }


def _stamp(path: str) -> str:
    try:
        stat = os.stat(path)
        return f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
    except (OSError, ValueError):
        return f"{path}\n"


def new_images(folder: Path, shape: tuple[int, ...]) -> Pixels:
    """Creates ``images.npy``, filled with zeros, and maps it into memory for writing.

    The space on the disk is allocated at once: writing to a memory map on a full disk kills the process (SIGBUS).

    Args:
        folder: An existing folder.
        shape: (N, h, w, C).

    Raises:
        OSError: The disk is full.
    """
    file = folder / IMAGES_FILE
    images: Pixels = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return images


def write_meta(folder: Path, canvases: Canvases, origin: Origin) -> None:
    """Flushes the images of a folder to the disk and writes ``meta.npz`` beside them.

    Args:
        folder: Contains ``images.npy``, as `new_images` created it.
        canvases: Their images are the first M of that file.
        origin: What they were made from.
    """
    if isinstance(canvases.images, np.memmap):
        canvases.images.flush()
    about = json.dumps({"origin": origin, "problems": {str(row): text for row, text in canvases.problems.items()}})
    with (folder / META_FILE).open("wb") as stream:
        np.savez(stream, about=about, rows=canvases.rows, matrices=canvases.matrices, extents_hw=canvases.extents_hw)
        stream.flush()
        os.fsync(stream.fileno())  # the folder gets its name afterwards: a power cut must not leave half of the bytes


def read_canvases(folder: Path) -> tuple[Canvases, Origin]:
    """Opens a cache folder. The images are mapped copy-on-write: changes stay in the memory of this process.

    Raises:
        ValueError, KeyError, OSError, zipfile.BadZipFile: The folder is not a complete cache.
    """
    with (folder / META_FILE).open("rb") as stream, np.load(stream) as meta:
        about, rows, matrices, extents = (meta[name] for name in ("about", "rows", "matrices", "extents_hw"))
    document: dict[str, Any] = json.loads(str(about))
    images = np.load(folder / IMAGES_FILE, mmap_mode="c")  # TensorFlow shares the memory only of a writable array
    problems = {int(row): text for row, text in document["problems"].items()}
    return Canvases(images[: len(rows)], matrices, extents, rows, problems), document["origin"]


def reusable_canvases(folder: Path, origin: Origin, allow_missing: bool) -> Canvases | None:
    """Opens a cache folder if it was made from the same photographs in the same way; logs the decision.

    Args:
        folder: The cache folder; it does not need to exist.
        origin: What the canvases must have been made from.
        allow_missing: Whether faces may be missing because their photographs could not be read.

    Returns:
        The canvases, or None if the cache must be built.

    Raises:
        KpdetectError: `folder` contains something else than a cache, which must not be overwritten.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not folder.is_dir() or not {file.name for file in folder.iterdir()} <= {IMAGES_FILE, META_FILE}:
        raise KpdetectError(f"{folder}: expected a cache folder or a new name for --cache, found other files")
    try:
        canvases, made_from = read_canvases(folder)
        reason = _difference(canvases, made_from, origin, allow_missing)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        reason = "is not a complete cache of this version"
    if reason:
        _LOG.warning(f"{folder}: {reason}; building it again")
        return None
    _LOG.info(f"{folder}: using {len(canvases.rows)} cached faces")
    return canvases


def _difference(canvases: Canvases, made_from: Origin, origin: Origin, allow_missing: bool) -> str:
    """The reason why a complete cache cannot be used; an empty string if it can."""
    differing = [name for name in origin if made_from.get(name) != origin[name]]
    if differing:
        return f"was made with other {', '.join(differing)}"
    if canvases.problems and not allow_missing:
        return f"lacks {len(canvases.problems)} faces that could not be read"
    return ""
