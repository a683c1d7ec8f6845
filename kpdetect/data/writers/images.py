"""The images of a set for a writer: their files and sizes; images without a file are written as PNG."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import image_size, write_image
from kpdetect.core.progress import progress
from kpdetect.core.text import printable
from kpdetect.data.annotations import Annotations


@dataclass(frozen=True)
class WrittenImage:
    """An image of a set.

    Attributes:
        file: Path of the image file.
        size_hw: (height, width) after its EXIF rotation.
    """

    file: Path
    size_hw: tuple[int, int]


def image_files(annotations: Annotations, folder: str | os.PathLike[str]) -> dict[str, WrittenImage]:
    """Returns the file and the size of each image of a set by its path in `Annotations.paths`.

    Args:
        annotations: The set. Synthetic images and those in cells of a CSV file, which have no file, are written.
        folder: Where images without a file are written to; created if it is needed.

    Raises:
        KpdetectError: An image cannot be read or written.
    """
    found: dict[str, WrittenImage] = {}
    for path in progress(list(dict.fromkeys(annotations.paths.tolist())), "reading images"):
        if os.path.isfile(path):
            size_hw = image_size(path) or annotations.read(path).shape[:2]
            found[path] = WrittenImage(Path(path), (size_hw[0], size_hw[1]))
            continue
        image = annotations.read(path)
        stem = re.sub(r"[^\w.-]+", "_", os.path.basename(path)).strip("._") or "image"
        digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]  # names may be equal otherwise
        file = Path(folder) / f"{stem[:80]}-{digest}.png"
        write_image(file, image)
        found[path] = WrittenImage(file, (image.shape[0], image.shape[1]))
    return found


def rows_by_path(annotations: Annotations) -> dict[str, list[int]]:
    """Returns the faces of each image, in the order of `Annotations.paths`."""
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(annotations.paths.tolist()):
        rows.setdefault(path, []).append(row)
    return rows


def relative_to(file: Path, folder: Path) -> str:
    """Returns the path of a file relative to a folder, with slashes; absolute if they are on different drives.

    Raises:
        KpdetectError: The path cannot be written as text.
    """
    try:
        path = Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:
        path = file.absolute().as_posix()
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise KpdetectError(f"{printable(path)}: its name is not UTF-8; rename the file to list it") from error
    if re.search(r"[\x00-\x1f]", path):
        raise KpdetectError(f"{printable(path)}: its name has control characters; rename the file to list it")
    return path
