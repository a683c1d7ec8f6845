"""The Parquet tables of ``label``: a row per face, and a row per bad photograph."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kpdetect.core.atomic_write import DISK_FULL, atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face

COUNTS_KEY = b"kpdetect_counts"

ERRORS = pa.schema([pa.field("image", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])


@dataclass(frozen=True)
class Counts:
    """Counts of a part, or of all parts.

    Attributes:
        photographs: The number of photographs.
        faces: The number of their faces.
        errors: The number of bad photographs among them.

    Example:
        >>> Counts(2, 3, 0) + Counts(1, 0, 1)
        Counts(photographs=3, faces=3, errors=1)
    """

    photographs: int = 0
    faces: int = 0
    errors: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.photographs + other.photographs, self.faces + other.faces, self.errors + other.errors)


@dataclass(frozen=True)
class LabelResult:
    """The faces of one photograph.

    Attributes:
        name: The photograph's name in the tables.
        size_hw: Its (height, width) in pixels.
        faces: Its faces, largest first.
    """

    name: str
    size_hw: tuple[int, int]
    faces: list[Face]


@dataclass(frozen=True)
class BadPhoto:
    """A photograph that could not be predicted, and the reason."""

    name: str
    reason: str


def faces_schema(scheme: KeypointSchema) -> Any:
    """The columns of the tables of faces; the metadata contains the points' names.

    ``box`` is the tight box of the keypoints and ``detection_box`` the detector's, both (x0, y0, x1, y1),
    ``keypoints`` is (K, 2) and ``uncertainty`` (K,), all in pixels of the photograph after its EXIF rotation;
    ``score`` and ``uncertainty`` are null if the model has none.
    """
    number, points = pa.float32(), scheme.num_keypoints
    columns = [
        pa.field("image", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("box", pa.list_(number, 4), nullable=False),
        pa.field("detection_box", pa.list_(number, 4)),
        pa.field("keypoints", pa.list_(pa.list_(number, 2), points), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("uncertainty", pa.list_(number, points)),
    ]
    return pa.schema(columns, {"scheme": scheme.name, "point_names": json.dumps(scheme.point_names)})


def faces_table(results: Sequence[LabelResult], scheme: KeypointSchema) -> Any:
    """A table with a row per face, in the order of the photographs."""
    schema = faces_schema(scheme)
    faces = [(one, face) for one in results for face in one.faces]
    if not faces:
        return schema.empty_table()
    columns = [
        pa.array([one.name for one, _ in faces], pa.string()),
        pa.array([one.size_hw[1] for one, _ in faces], pa.int32()),
        pa.array([one.size_hw[0] for one, _ in faces], pa.int32()),
        _nested(np.stack([face.box for _, face in faces])),
        pa.array([face.detection_box for _, face in faces], schema.field("detection_box").type),
        _nested(np.stack([face.keypoints for _, face in faces])),
        pa.array([face.score for _, face in faces], pa.float64()),
        pa.array([face.uncertainty for _, face in faces], schema.field("uncertainty").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def errors_table(errors: Sequence[BadPhoto]) -> Any:
    """A table with a row per bad photograph."""
    return pa.table({"image": [one.name for one in errors], "reason": [one.reason for one in errors]}, ERRORS)


def write_table(path: Path, table: Any, counts: Counts) -> None:
    """Writes a table atomically, with the counts of its part in its metadata.

    Raises:
        KpdetectError: The file cannot be written, for example since the disk is full.
    """
    metadata = {**(table.schema.metadata or {}), COUNTS_KEY: json.dumps(dataclasses.asdict(counts))}
    with atomic_file(path) as temporary:
        try:
            pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")
        except OSError as error:
            if error.errno in DISK_FULL:
                raise  # `atomic_file` reports it
            raise KpdetectError(f"{path}: cannot write there: {error.strerror or error}") from error


def read_counts(path: Path) -> Counts:
    """Reads the counts of a finished part.

    Raises:
        KpdetectError: The file is damaged, or ``label`` did not write it.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return Counts(**json.loads(metadata[COUNTS_KEY]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise KpdetectError(
            f"{path}: expected the table of a finished part, found a damaged file; remove it and run the command again"
        ) from error


def _nested(values: Any) -> Any:
    """Converts an array (N, A) or (N, A, B) to fixed-size lists."""
    array = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array
