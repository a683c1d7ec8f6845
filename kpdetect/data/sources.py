"""Loads labelled faces from the SPEC of a command line: ``youtube-faces:DIR``, ``ibug:PLACE``, ``csv:FILE``, …"""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from kpdetect.core.errors import DataError, KpdetectError, unknown_name
from kpdetect.data import synthetic
from kpdetect.data.annotations import Annotations, concatenate
from kpdetect.data.detect_kind import detect_kind
from kpdetect.data.readers.asf import read_imm
from kpdetect.data.readers.coco import read_coco
from kpdetect.data.readers.cvat import read_cvat
from kpdetect.data.readers.ibug import read_dlib, read_ibug, read_pts
from kpdetect.data.readers.kaggle import read_kaggle
from kpdetect.data.readers.label_studio import read_label_studio
from kpdetect.data.readers.labelme import read_labelme
from kpdetect.data.readers.lp300w import read_300w_lp
from kpdetect.data.readers.tabular import read_csv, read_youtube_faces
from kpdetect.data.readers.wflw import read_wflw
from kpdetect.data.readers.yolo import SPLITS, read_yolo

_LOG = logging.getLogger(__name__)

SYNTHETIC_COUNT = 1000  # faces if no number is given: rendered in seconds, and enough for a first training


@dataclass(frozen=True)
class Source:
    """A kind of SPEC.

    Attributes:
        place: What follows ``KIND:``, for error messages; in brackets if it is optional.
        read: Reads ``(place, skip_bad_rows)``.

    Example:
        ``SOURCES["csv"].place`` is ``FILE``.
    """

    place: str
    read: Callable[[str, bool], Annotations]


def load(
    spec: str, skip_bad_rows: bool = False, relabel: Callable[[Annotations], Annotations] | None = None
) -> Annotations:
    """Reads the labelled faces that a SPEC names, as one set.

    >>> len(load("synthetic:3"))
    3

    Args:
        spec: As for `load_sets`.
        skip_bad_rows: As for `load_sets`.
        relabel: Applied to each set before the sets are concatenated, such as `kpdetect.data.align`.

    Raises:
        DataError: Rows are invalid; the error lists all of them.
        KpdetectError: The kind is unknown, a folder or file does not exist, or the sets have different schemas.
    """
    sets = load_sets(spec, skip_bad_rows)
    return concatenate(sets if relabel is None else [relabel(part) for part in sets])


def load_sets(spec: str, skip_bad_rows: bool = False) -> list[Annotations]:
    """Reads the sets of labelled faces that a SPEC names.

    >>> [part.name for part in load_sets("synthetic:2:0,synthetic:3:1")]
    ['synthetic', 'synthetic']

    Args:
        spec: ``KIND:PLACE``; several are separated by commas. The kinds are ``youtube-faces:DIR``,
            ``youtube-faces-published-test:DIR`` (shares people with the training list), ``ibug:DIR_OR_XML``,
            ``imm:DIR``, ``imm-train:DIR`` (persons 1-32), ``imm-val:DIR`` (persons 33-40), ``csv:FILE``,
            ``coco:FILE.json``, ``yolo:DATA.yaml[:SPLIT]``, ``cvat:FILE.xml``, ``labelme:DIR``,
            ``label-studio:FILE.json``, ``kaggle:FILE.csv``, ``wflw:LIST.txt``, ``300w-lp:DIR``, ``dlib:FILE.xml``,
            ``pts:DIR`` and ``synthetic[:N[:SEED]]``. The kind of an existing file or folder without one is detected.
        skip_bad_rows: Leave out invalid rows and count them in `Annotations.skipped`, instead of raising.

    Raises:
        DataError: Rows are invalid; the error lists those of all sets.
        KpdetectError: The kind is unknown, or a folder or file does not exist.
    """
    sets: list[Annotations] = []
    problems: list[str] = []
    for kind, place, part in _parts_of(spec):
        if not part.startswith(f"{kind}:") and part != kind:
            _LOG.info(f"{part}: read as {kind}:{place}")
        try:
            sets.append(SOURCES[kind].read(place, skip_bad_rows))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return sets


def check_spec(spec: str) -> None:
    """Checks the kinds in a SPEC, and that their files and folders exist, without reading labels.

    >>> check_spec("synthetic:3")

    Args:
        spec: As for `load_sets`.

    Raises:
        KpdetectError: A kind is unknown, or a file or folder does not exist.
    """
    for kind, place, part in _parts_of(spec):
        path = _without_split(place)
        if not SOURCES[kind].place.startswith("[") and not os.path.exists(path):
            raise KpdetectError(f"--data {part}: no such file or folder: {path}")


def _parts_of(spec: str) -> list[tuple[str, str, str]]:
    """Returns the kind, the place and the text of each part of a SPEC."""
    parts = [part.strip() for part in spec.split(",") if part.strip()]
    if not parts:
        raise KpdetectError(f"data: expected KIND:PLACE, of kind {', '.join(sorted(SOURCES))}; received '{spec}'")
    found = []
    for part in parts:
        kind, place = _kind_and_place(part)
        if not place and not SOURCES[kind].place.startswith("["):
            raise KpdetectError(f"data: expected {kind}:{SOURCES[kind].place}, received nothing after the kind")
        found.append((kind, place, part))
    return found


def _without_split(place: str) -> str:
    """Returns the path of ``data.yaml:val``, and of any other place itself."""
    path, _, split = place.rpartition(":")
    return path if split in SPLITS and path else place


def _kind_and_place(part: str) -> tuple[str, str]:
    """Splits one part of a SPEC; the kind of a file or folder without one is detected."""
    kind, _, place = part.partition(":")
    if kind in SOURCES:
        return kind, place
    path = _without_split(part)
    detected = detect_kind(path)
    if detected is not None:
        return detected, part
    if os.path.exists(path):
        raise KpdetectError(
            f"{part}: expected KIND:PLACE, and the kind of this {'folder' if os.path.isdir(path) else 'file'} was not "
            f"recognised; write for example csv:{part}. The kinds are {', '.join(sorted(SOURCES))}"
        )
    if re.search(r"[./\\]", kind):
        suggested = {".json": "coco", ".xml": "dlib", ".yaml": "yolo"}.get(os.path.splitext(path)[1].lower(), "csv")
        raise KpdetectError(f"{part}: expected KIND:PLACE such as {suggested}:{part}, and found nothing at {path}")
    raise unknown_name("kind of data", kind, SOURCES)


def _synthetic(place: str, _skip_bad_rows: bool) -> Annotations:
    count_text, _, seed_text = place.partition(":")
    try:
        count, seed = int(count_text or SYNTHETIC_COUNT), int(seed_text or 0)
    except ValueError:
        raise KpdetectError(
            f"data: expected synthetic[:N[:SEED]] with whole numbers, received 'synthetic:{place}'"
        ) from None
    if count < 1 or seed < 0:
        raise KpdetectError(f"data: expected at least 1 synthetic face and a seed from 0, received 'synthetic:{place}'")
    return synthetic.annotations(count, seed=seed)


SOURCES: dict[str, Source] = {
    "youtube-faces": Source("DIR", lambda place, skip: read_youtube_faces(place, "training", skip)),
    "youtube-faces-published-test": Source(
        "DIR", lambda place, skip: read_youtube_faces(place, "published-test", skip)
    ),
    "ibug": Source("DIR_OR_XML", read_ibug),
    "dlib": Source("FILE.xml", read_dlib),
    "pts": Source("DIR", read_pts),
    "imm": Source("DIR", lambda place, skip: read_imm(place, "all", skip)),
    "imm-train": Source("DIR", lambda place, skip: read_imm(place, "train", skip)),
    "imm-val": Source("DIR", lambda place, skip: read_imm(place, "val", skip)),
    "csv": Source("FILE", read_csv),
    "coco": Source("FILE.json", read_coco),
    "yolo": Source("DATA.yaml[:SPLIT]", read_yolo),
    "cvat": Source("FILE.xml", read_cvat),
    "labelme": Source("DIR", read_labelme),
    "label-studio": Source("FILE.json", read_label_studio),
    "kaggle": Source("FILE.csv", read_kaggle),
    "wflw": Source("LIST.txt", read_wflw),
    "300w-lp": Source("DIR", read_300w_lp),
    "synthetic": Source("[N[:SEED]]", _synthetic),
}
"""The kinds of SPEC by name."""
