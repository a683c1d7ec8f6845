"""What the command ``predict`` has to do: photographs of files, folders, globs or a data set, and their outputs."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import HEIF_SUFFIXES, IMAGE_SUFFIXES, cv2, read_image
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import load
from kpdetect.data.annotations import ReadImage

DRAWN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""The formats of drawings in a folder; a photograph of another format is drawn as PNG."""

_UNSAFE_IN_FILE_NAMES = re.compile(r"[^\w.\- ]")


@dataclass(frozen=True, eq=False)
class PhotoTask:
    """One photograph to predict, and where its pictures go.

    Attributes:
        path: Its file, or another name that `read` accepts.
        read: Returns its pixels, (H, W, 3) uint8 RGB.
        boxes: (n, 4), the face boxes of a data set in pixels; None to detect faces.
        rows: (n,) the row of the data set of each box, from 0.
        drawing: The file of the drawing; None for no drawing.
        chips: The files of the face chips, without number and suffix; None for no chips.
    """

    path: str
    read: ReadImage = read_image
    boxes: Floats | None = None
    rows: tuple[int, ...] = ()
    drawing: Path | None = None
    chips: Path | None = None

    def chip_file(self, number: int) -> Path | None:
        """The file of the chip of a face, counted from 1; None for no chips."""
        return self.chips and self.chips.with_name(f"{self.chips.name}_{number}.png")


@dataclass(frozen=True)
class TaskList:
    """Everything that one run of ``predict`` has to do.

    Attributes:
        tasks: Each photograph once.
        schema: The schema of the data set; None without one.
        num_rows: The number of faces of the data set.
        skipped: The number of its rows that were left out because they are bad.
        notes: Lines about files of folders and globs that were left out.
    """

    tasks: tuple[PhotoTask, ...]
    schema: KeypointSchema | None = None
    num_rows: int = 0
    skipped: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFiles:
    """The photographs of several places.

    Attributes:
        files: Their paths, each once: those named themselves, and those of folders and globs by name.
        notes: A line for each place with files that were left out.
    """

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def tasks_from_images(
    places: Sequence[str], drawings: str | None, chip_folder: str | None = None, read: ReadImage = read_image
) -> TaskList:
    """Tasks for photographs whose faces have to be detected.

    Args:
        places: Files, folders (without their subfolders) and globs.
        drawings: A file or folder, see `drawing_targets`.
        chip_folder: See `chip_targets`.
        read: Returns the pixels of a file.

    Raises:
        KpdetectError: A folder or glob has no photograph, or an output would replace a photograph.
    """
    found = list_images(places)
    targets, chips = drawing_targets(found.files, drawings), chip_targets(found.files, chip_folder)
    tasks = [PhotoTask(file, read, drawing=targets.get(file), chips=chips.get(file)) for file in found.files]
    return TaskList(tuple(tasks), notes=found.notes)


def tasks_from_data(spec: str, skip_bad_rows: bool, drawings: str | None, chip_folder: str | None = None) -> TaskList:
    """Tasks for the photographs of a data set, each once with all its boxes, in the order of their first rows.

    Args:
        spec: ``KIND:PLACE``, see `kpdetect.data.load`.
        skip_bad_rows: Leave out bad rows.
        drawings: A file or folder, see `drawing_targets`; the data set's folders are kept below it.
        chip_folder: See `chip_targets`; folders are kept as well.

    Raises:
        DataError: Rows are bad.
        KpdetectError: There is no such data set, or an output would replace a photograph.
    """
    annotations = load(spec, skip_bad_rows)
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(annotations.paths.tolist()):
        rows_of.setdefault(path, []).append(row)
    targets = drawing_targets(list(rows_of), drawings, keep_folders=True)
    chips = chip_targets(list(rows_of), chip_folder, keep_folders=True)
    tasks = [
        PhotoTask(path, annotations.read, annotations.boxes[rows], tuple(rows), targets.get(path), chips.get(path))
        for path, rows in rows_of.items()
    ]
    return TaskList(tuple(tasks), annotations.schema, len(annotations), annotations.skipped)


def list_images(places: Iterable[str]) -> ImageFiles:
    """Lists photographs.

    Args:
        places: Files, folders (without their subfolders) and globs, in which ``**`` matches any depth. Of folders and
            globs, the files with a suffix of `IMAGE_SUFFIXES` are taken, and HEIC where pillow-heif is installed.

    Raises:
        KpdetectError: A folder or glob has no photograph, or cannot be read.
    """
    files: list[str] = []
    notes: list[str] = []
    for place in places:
        if os.path.isdir(place):
            candidates = _files_in(place)
        elif glob.has_magic(place) and not os.path.lexists(place):
            candidates = sorted(file for file in glob.glob(place, recursive=True) if os.path.isfile(file))
        elif "://" in place and not os.path.lexists(place):
            raise KpdetectError(f"{place}: expected a file, folder or glob, received an address; download it first")
        else:
            files.append(place)
            continue
        images = [file for file in candidates if is_image_name(file)]
        left_out = left_out_note([file for file in candidates if not is_image_name(file)])
        if not images:
            held = f"only other files: {left_out}" if left_out else "no file"
            raise KpdetectError(f"{place}: expected photographs ({', '.join(IMAGE_SUFFIXES)}), found {held}")
        if left_out:
            notes.append(f"{place}: left out {left_out}")
        files += images
    return ImageFiles(tuple(dict.fromkeys(files)), tuple(notes))


def is_image_name(file: str) -> bool:
    """Whether a file of a folder or glob is taken for a photograph, by its suffix."""
    suffixes = (*IMAGE_SUFFIXES, *HEIF_SUFFIXES) if can_read_heif() else IMAGE_SUFFIXES
    return file.lower().endswith(suffixes)


def can_read_heif() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def left_out_note(files: Sequence[str]) -> str:
    """Counts files by suffix: ``3 files: 2 .txt, 1 .heic (HEIC needs pillow-heif: …)``; empty without files."""
    if not files:
        return ""
    counts = Counter(os.path.splitext(file)[1].lower() or "without suffix" for file in files)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    hint = " (HEIC needs pillow-heif: pip install pillow-heif)" if any(kind in counts for kind in HEIF_SUFFIXES) else ""
    return f"{len(files)} file{'s' * (len(files) != 1)}: {kinds}{hint}"


def drawing_targets(files: Sequence[str], target: str | None, keep_folders: bool = False) -> dict[str, Path]:
    """Chooses the file of each photograph's drawing.

    Args:
        files: The photographs.
        target: A file, for a single photograph and with the suffix of a picture; otherwise a folder. None for no
            drawings.
        keep_folders: Keep the folders below the one that all photographs share. Otherwise they are kept if two
            photographs have the same name.

    Raises:
        KpdetectError: A format cannot be written, or a drawing would replace a photograph or another drawing.
    """
    if target is None:
        return {}
    place = Path(target)
    if place.suffix.lower() in (*IMAGE_SUFFIXES, *HEIF_SUFFIXES) and not place.is_dir():
        if len(files) > 1:
            raise KpdetectError(
                f"--draw {target}: expected a folder for {len(files)} photographs, received a file name"
            )
        if not cv2.haveImageWriter(f"drawing{place.suffix.lower()}"):
            raise KpdetectError(
                f"--draw {target}: this OpenCV cannot write {place.suffix} files; expected {', '.join(DRAWN_SUFFIXES)}"
            )
        targets = {files[0]: place}
    else:
        names = [Path(file).name for file in files]
        if keep_folders or len(set(names)) < len(names):
            names = _names_below_shared_folder(files)
        names = [name if name.lower().endswith(DRAWN_SUFFIXES) else f"{name}.png" for name in names]
        targets = {file: place / name for file, name in zip(files, names, strict=True)}
    photographs = {os.path.realpath(file) for file in targets}
    taken: dict[Path, str] = {}
    for file, drawing in targets.items():
        if os.path.realpath(drawing) in photographs:
            raise KpdetectError(f"--draw: {drawing} would replace a photograph; choose another folder")
        if drawing in taken:
            raise KpdetectError(
                f"--draw: the drawings of {taken[drawing]} and {file} would both be {drawing}; predict them separately"
            )
        taken[drawing] = file
    return targets


def chip_targets(files: Sequence[str], folder: str | None, keep_folders: bool = False) -> dict[str, Path]:
    """Chooses the files of each photograph's face chips, without number and suffix: ``photo`` for ``photo_1.png``.

    Photographs of the same stem keep their suffix: ``photo.jpg_1.png`` and ``photo.png_1.png``.

    Args:
        files: The photographs.
        folder: The folder of the chips; None for no chips.
        keep_folders: As for `drawing_targets`.

    Raises:
        KpdetectError: The folder is a file, or contains the photographs.
    """
    if folder is None:
        return {}
    place = Path(folder)
    if place.is_file() or place.suffix.lower() in IMAGE_SUFFIXES:
        raise KpdetectError(f"--crop-faces {folder}: expected a folder, received a file name")
    names = [Path(file).name for file in files]
    if keep_folders or len(set(names)) < len(names):
        names = _names_below_shared_folder(files)
    stems = Counter(os.path.splitext(name)[0] for name in names)
    targets = {}
    for file, name in zip(files, names, strict=True):
        stem = os.path.splitext(name)[0]
        targets[file] = place / (stem if stems[stem] == 1 else name)
    sources = {os.path.dirname(os.path.realpath(file)) for file in files}
    if any(os.path.realpath(target.parent) in sources for target in targets.values()):
        raise KpdetectError(f"--crop-faces {folder}: chips could replace photographs there; choose another folder")
    return targets


def _files_in(folder: str) -> list[str]:
    """The visible files of a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise KpdetectError(f"{folder}: cannot read this folder: {error.strerror or error}") from error
    return [os.path.join(folder, name) for name in names]


def _names_below_shared_folder(files: Sequence[str]) -> list[str]:
    """The rest of each path, with characters that a file name may not contain replaced."""
    paths = [os.path.abspath(file) for file in files]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    parts = [Path(os.path.relpath(path, shared)).parts for path in paths]
    return [os.path.join(*(_UNSAFE_IN_FILE_NAMES.sub("_", part) for part in path)) for path in parts]
