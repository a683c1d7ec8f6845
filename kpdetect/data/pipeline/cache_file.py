"""Owns the file that keeps decoded canvases: how it is made, what it says of itself, and when it may be used again."""

import glob
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kpdetect import __version__
from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, Matrix
from kpdetect.core.images import Pixels
from kpdetect.data.annotations import Annotations
from kpdetect.data.pipeline.framing import Framing

try:
    import fcntl
except ImportError:  # Windows, where nobody can tell a file that is being written from one that was left
    fcntl = None  # type: ignore[assignment]

FORMAT = 2
"""Another number whenever the same photograph would give another canvas, or the file is laid out in another way."""

NPY_MAGIC = b"\x93NUMPY"

Origin = dict[str, str | int]
"""What canvases were made of, each part under the name that people are told."""


@dataclass(frozen=True)
class Canvases:
    """Photographs as they are kept, M of N faces.

    Attributes:
        images: (M, h, w, C) uint8, in memory or mapped from a file.
        matrices: (M, 3, 3) float64, from the photograph to the canvas.
        extents_hw: (M, 2) float32, what the photograph takes of the canvas.
        rows: (M,) int64, which of the N faces each is.
        problems: Why the other faces are not there, by row.
    """

    images: Pixels
    matrices: Matrix
    extents_hw: Floats
    rows: npt.NDArray[np.int64]
    problems: Mapping[int, str]


def origin_of(annotations: Annotations, framing: Framing, channels: int) -> Origin:
    """What canvases of these faces are made of.

    A photograph that is a file goes by its path, size and time of change; one that is none, such as a drawn face, by
    its address. Points play no part: they are put onto the canvases anew.
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


def new_map(file: Path, shape: tuple[int, ...]) -> Pixels:
    """An array of zeros in a file to be filled, whose room on the disk is taken at once.

    A map finds a disk that has become full by being killed (SIGBUS), and nobody could say why.

    Raises:
        OSError: There is no room.
    """
    images: Pixels = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return images


@contextmanager
def file_to_seal(file: Path) -> Iterator[Path]:
    """A temporary file beside `file`, which gets its name when the block ends well; those of killed ones are removed.

    Raises:
        KpdetectError: As `kpdetect.core.atomic_write.atomic_file`.
    """
    with atomic_file(file) as temporary, temporary.open("rb") as stream:
        _take(stream)
        for left in file.parent.glob(glob.escape(f".{file.stem}.") + "????????" + glob.escape(file.suffix)):
            if left != temporary:
                _remove_if_left(left)
        yield temporary


def _take(stream: IO[bytes]) -> bool:
    """Takes a file for as long as it is open; false where another process has it, or none can take any."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_if_left(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            if _take(stream):
                file.unlink()
    except OSError:  # gone already, or somebody else's
        return


def seal(file: Path, canvases: Canvases, origin: Origin) -> None:
    """Writes out the images, and what they are as a zip archive behind them.

    So NumPy reads the file as an array, and zip as an archive; one rename makes both valid.

    Args:
        file: Holds the images, as `new_map` made it.
        canvases: With the images that `file` maps, or the first of them.
        origin: What they were made of.
    """
    if isinstance(canvases.images, np.memmap):
        canvases.images.flush()
    about = json.dumps({"origin": origin, "problems": {str(row): text for row, text in canvases.problems.items()}})
    with file.open("r+b") as stream:
        stream.seek(0, os.SEEK_END)
        np.savez(stream, about=about, rows=canvases.rows, matrices=canvases.matrices, extents_hw=canvases.extents_hw)
        stream.flush()
        os.fsync(stream.fileno())  # the name is given after it: a power cut must not leave it to half of the bytes


def open_canvases(file: Path) -> Canvases:
    """The canvases of a file that was sealed; the images are mapped, and what is written to them stays in memory.

    Raises:
        ValueError, KeyError, OSError, zipfile.BadZipFile: It is none.
    """
    return _open(file)[0]


def usable_canvases(file: Path, origin: Origin, with_problems: bool) -> Canvases | None:
    """The canvases of a file that were made of the same photographs in the same way; says so on stderr, or why not.

    Args:
        file: The file; it need not be there.
        origin: What canvases are wanted.
        with_problems: Whether some faces may be missing, because their photographs could not be read.

    Raises:
        KpdetectError: The file holds something else, which nobody would want to be replaced.
    """
    if not file.is_file() or file.stat().st_size == 0:
        return None
    _check_kind(file)
    try:
        canvases, made_of = _open(file)
        reason = _why_not(canvases, made_of, origin, with_problems)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        reason = "is no whole cache of this version"
    if reason:
        print(f"{file}: {reason}; making it anew", file=sys.stderr)
        return None
    print(f"{file}: {len(canvases.rows)} faces that were cached before are used again", file=sys.stderr)
    return canvases


def _check_kind(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise KpdetectError(f"{file}: expected a cache of faces or the name of a new file, found something else")


def _why_not(canvases: Canvases, made_of: Origin, origin: Origin, with_problems: bool) -> str:
    differing = [name for name in origin if made_of.get(name) != origin[name]]
    if differing:
        return f"was made with other {', '.join(differing)}"
    if canvases.problems and not with_problems:
        return f"lacks {len(canvases.problems)} faces, which could not be read"
    return ""


def _open(file: Path) -> tuple[Canvases, Origin]:
    with zipfile.ZipFile(file) as archive:
        about, rows, matrices, extents = (
            np.load(io.BytesIO(archive.read(f"{name}.npy"))) for name in ("about", "rows", "matrices", "extents_hw")
        )
    document: dict[str, Any] = json.loads(str(about))
    images = np.load(file, mmap_mode="c")  # "c": what TensorFlow takes over must be writable
    problems = {int(row): text for row, text in document["problems"].items()}
    return Canvases(images[: len(rows)], matrices, extents, rows, problems), document["origin"]
