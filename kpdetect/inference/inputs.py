"""Owns what the command ``predict`` is to mark: photographs of files and folders, or of a data set."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import read_image
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import load
from kpdetect.data.annotations import ReadImage

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What a folder is searched for. A file that is named itself may have any suffix: its content counts."""

_ODD_IN_FILE_NAMES = re.compile(r"[^\w.\- ]")


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph to mark.

    Attributes:
        path: Its file, or what `read` takes.
        read: Gives its pixels.
        boxes: (n, 4), the face boxes of a data set; None where faces are to be looked for.
        rows: (n,) the row of the data set that each box is.
        target: Where the marked photograph goes, if anywhere.
        chips: Where its face chips go, if anywhere; see `chip_targets`.
    """

    path: str
    read: ReadImage = read_image
    boxes: Floats | None = None
    rows: tuple[int, ...] = ()
    target: Path | None = None
    chips: Path | None = None

    def chip_target(self, number: int) -> Path | None:
        """Where the chip of one of its faces goes, counted from 1."""
        return self.chips and self.chips.with_name(f"{self.chips.name}_{number}.png")


@dataclass(frozen=True)
class Work:
    """All there is to mark.

    Attributes:
        photographs: Each photograph once.
        schema: The scheme of the data set; None without one.
        num_rows: How many faces the data set has.
        skipped: How many of its rows were bad and left out.
    """

    photographs: tuple[Photograph, ...]
    schema: KeypointSchema | None = None
    num_rows: int = 0
    skipped: int = 0


def work_of_images(
    places: Sequence[str], target: str | None, chip_folder: str | None = None, read: ReadImage = read_image
) -> Work:
    """Photographs whose faces are to be looked for.

    Args:
        places: Files, and folders of them.
        target: Where the marked photographs go; see `drawing_targets`.
        chip_folder: Where the face chips go; see `chip_targets`.
        read: Gives the pixels of a file.

    Raises:
        KpdetectError: A folder has no image, or a target would do harm.
    """
    files = list_images(places)
    targets, chips = drawing_targets(files, target), chip_targets(files, chip_folder)
    return Work(tuple(Photograph(file, read, target=targets.get(file), chips=chips.get(file)) for file in files))


def work_of_data(spec: str, skip_bad_rows: bool, target: str | None, chip_folder: str | None = None) -> Work:
    """The photographs of a data set, each once with all its boxes, in the order in which they first appear.

    Args:
        spec: See `kpdetect.data.load`.
        skip_bad_rows: Leave bad rows out.
        target: Where the marked photographs go; see `drawing_targets`. Folders of the set are kept as folders.
        chip_folder: Where the face chips go; see `chip_targets`. Folders are kept here as well.

    Raises:
        DataError: Rows are bad.
        KpdetectError: There is no such set, or a target would do harm.
    """
    annotations = load(spec, skip_bad_rows)
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(annotations.paths.tolist()):
        rows_of.setdefault(path, []).append(row)
    targets = drawing_targets(list(rows_of), target, keep_folders=True)
    chips = chip_targets(list(rows_of), chip_folder, keep_folders=True)
    photographs = tuple(
        Photograph(path, annotations.read, annotations.boxes[rows], tuple(rows), targets.get(path), chips.get(path))
        for path, rows in rows_of.items()
    )
    return Work(photographs, annotations.schema, len(annotations), annotations.skipped)


def list_images(places: Sequence[str]) -> list[str]:
    """Files as they are, and the images of folders, by name.

    Raises:
        KpdetectError: A folder has no image.
    """
    files = []
    for place in places:
        files += _images_in(Path(place)) if os.path.isdir(place) else [place]
    return list(dict.fromkeys(files))


def drawing_targets(files: Sequence[str], target: str | None, keep_folders: bool = False) -> dict[str, Path]:
    """Where each marked photograph goes; nothing without a target.

    Args:
        files: The photographs.
        target: A file, for a single photograph and with the suffix of an image; or else a folder.
        keep_folders: Keep the folders below the one that all photographs share, since a data set may have photographs
            of one name in several.

    Raises:
        KpdetectError: Two photographs would go to one file, or one would replace a photograph.
    """
    if target is None:
        return {}
    place = Path(target)
    if place.suffix.lower() in IMAGE_SUFFIXES and not place.is_dir():
        if len(files) > 1:
            raise KpdetectError(f"--draw {target}: expected a folder for {len(files)} photographs, received a file")
        targets = {files[0]: place}
    else:
        names = _names_below_shared_folder(files) if keep_folders else [Path(file).name for file in files]
        targets = {file: place / _drawable(name) for file, name in zip(files, names, strict=True)}
    _check_targets(targets)
    return targets


def chip_targets(files: Sequence[str], folder: str | None, keep_folders: bool = False) -> dict[str, Path]:
    """Where the chips of each photograph's faces go, without number and suffix: ``photo`` for ``photo_1.png``.

    Args:
        files: The photographs.
        folder: Where to; nothing without it.
        keep_folders: As for `drawing_targets`.

    Raises:
        KpdetectError: The folder is a file or holds the photographs, or two photographs would have the same names.
    """
    if folder is None:
        return {}
    place = Path(folder)
    if place.is_file() or place.suffix.lower() in IMAGE_SUFFIXES:
        raise KpdetectError(f"--crop-faces {folder}: expected a folder, received a file")
    names = _names_below_shared_folder(files) if keep_folders else [Path(file).name for file in files]
    targets = {file: (place / _drawable(name)).with_suffix("") for file, name in zip(files, names, strict=True)}
    sources = {os.path.dirname(os.path.realpath(file)) for file in files}
    taken: dict[Path, str] = {}
    for file, target in targets.items():
        if os.path.realpath(target.parent) in sources:
            raise KpdetectError(f"--crop-faces {folder}: chips could replace photographs there; choose another folder")
        if target in taken:
            raise KpdetectError(f"--crop-faces: chips of {taken[target]} and {file} would have the same names")
        taken[target] = file
    return targets


def _images_in(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    if not images:
        found = f"{len(names)} other files" if names else "no file"
        raise KpdetectError(f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}) in this folder, found {found}")
    return [str(folder / name) for name in images]


def _names_below_shared_folder(files: Sequence[str]) -> list[str]:
    """The rest of each path, fit for a file system: a drawn photograph's address has signs that no file name may."""
    paths = [os.path.abspath(file) for file in files]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    parts = [Path(os.path.relpath(path, shared)).parts for path in paths]
    return [os.path.join(*(_ODD_IN_FILE_NAMES.sub("_", part) for part in path)) for path in parts]


def _drawable(name: str) -> str:
    """A file name in whose format a picture can be written."""
    return name if name.lower().endswith(IMAGE_SUFFIXES) else f"{name}.png"


def _check_targets(targets: dict[str, Path]) -> None:
    photographs = {os.path.realpath(file) for file in targets}
    taken: dict[Path, str] = {}
    for file, target in targets.items():
        if os.path.realpath(target) in photographs:
            raise KpdetectError(f"--draw: {target} would replace a photograph; choose another folder")
        if target in taken:
            raise KpdetectError(f"--draw: {taken[target]} and {file} would both go to {target}; mark them apart")
        taken[target] = file
