"""Owns the Parquet tables that labelling leaves behind: a row per face, and a row per photograph that is bad."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face

COUNTS_KEY = b"kpdetect_counts"

ERRORS = pa.schema([pa.field("image", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])


@dataclass(frozen=True)
class Counts:
    """What a part, or all of them, came to.

    Attributes:
        photographs: How many were looked at.
        faces: How many faces they have.
        errors: How many of the photographs are bad.
    """

    photographs: int = 0
    faces: int = 0
    errors: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.photographs + other.photographs, self.faces + other.faces, self.errors + other.errors)


@dataclass(frozen=True)
class Labelled:
    """A photograph whose faces were marked.

    Attributes:
        name: What it is called.
        size_hw: Its (height, width) in pixels.
        faces: Its faces, biggest first.
    """

    name: str
    size_hw: tuple[int, int]
    faces: list[Face]


@dataclass(frozen=True)
class Bad:
    """A photograph that could not be marked, and why."""

    name: str
    reason: str


def faces_schema(scheme: KeypointSchema) -> Any:
    """The columns of the faces' tables; the points' names are in the metadata.

    ``box`` is (x0, y0, x1, y1), ``keypoints`` (K, 2), ``uncertainty`` (K,), all in pixels of the photograph as it is
    seen; ``score`` and ``uncertainty`` are null where the model does not tell them.
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


def faces_table(labelled: Sequence[Labelled], scheme: KeypointSchema) -> Any:
    """A row per face, in the order of the photographs."""
    schema = faces_schema(scheme)
    faces = [(one, face) for one in labelled for face in one.faces]
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


def errors_table(bad: Sequence[Bad]) -> Any:
    """A row per photograph that could not be marked."""
    return pa.table({"image": [one.name for one in bad], "reason": [one.reason for one in bad]}, ERRORS)


def write_table(path: Path, table: Any, counts: Counts) -> None:
    """Writes a table whole or not at all, and the counts of its part into its metadata.

    Raises:
        KpdetectError: It cannot be written, such as on a full disk.
    """
    told = {**(table.schema.metadata or {}), COUNTS_KEY: json.dumps(dataclasses.asdict(counts))}
    with atomic_file(path) as temporary:
        try:
            pq.write_table(table.replace_schema_metadata(told), temporary, compression="zstd")
        except OSError as error:
            raise KpdetectError(f"{path}: cannot write there: {error.strerror or error}") from error


def read_counts(path: Path) -> Counts:
    """What a part that is done came to.

    Raises:
        KpdetectError: The file is damaged or not of labelling.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return Counts(**json.loads(metadata[COUNTS_KEY]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise KpdetectError(
            f"{path}: expected a finished part, found a damaged file; remove it, and the part is labelled again"
        ) from error


def _nested(values: Any) -> Any:
    """(N, A) or (N, A, B) numbers as fixed-size lists."""
    array = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array
