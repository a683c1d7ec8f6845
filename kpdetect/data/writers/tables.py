"""Writes labelled faces as CSV, which `kpdetect.data.read_csv` reads back exactly."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import MissingExtra
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.columns import BOX_COLUMNS, SUBJECT_COLUMN
from kpdetect.data.writers.images import image_files, relative_to


def header_of(annotations: Annotations) -> list[str]:
    """Returns the names of the columns: image, x and y of each point, subject and the face box."""
    points = [f"{name}_{axis}" for name in annotations.schema.point_names for axis in "xy"]
    return ["image", *points, SUBJECT_COLUMN, *BOX_COLUMNS]


def write_csv(annotations: Annotations, file: str) -> None:
    """Writes a CSV file: a header, and a row per face with paths relative to the file's folder.

    Points that are not visible are empty cells. Images without a file are written to ``FILE_images/``.

    Example:
        ``write_csv(load("synthetic:10"), "faces.csv")``

    Raises:
        KpdetectError: An image cannot be read, or the file cannot be written.
    """
    folder = Path(file).parent
    images = image_files(annotations, folder / f"{Path(file).stem}_images")
    with atomic_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header_of(annotations))
        for row, path in enumerate(annotations.paths.tolist()):
            visible = annotations.visible[row]
            points = zip(annotations.keypoints[row], visible, strict=True)
            cells = [_text(value) if is_visible else "" for point, is_visible in points for value in point]
            box = [_text(value) for value in annotations.boxes[row]]
            subject = str(annotations.subjects[row])
            writer.writerow([relative_to(images[path].file, folder), *cells, subject, *box])


def to_dataframe(annotations: Annotations) -> Any:
    """Returns a pandas data frame with the columns of `write_csv`; NaN for points that are not visible.

    Raises:
        MissingExtra: pandas is not installed.

    Example:
        ``to_dataframe(load("csv:faces.csv"))["nose_x"].mean()``
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("pandas", "train", "Annotations.to_dataframe") from error
    points = np.where(annotations.visible[..., None], annotations.keypoints, np.nan).astype(np.float32)
    names = header_of(annotations)
    columns: dict[str, Any] = {"image": annotations.paths}
    flat = points.reshape(len(points), 2 * annotations.schema.num_keypoints)
    columns |= {name: flat[:, index] for index, name in enumerate(names[1 : 1 + flat.shape[1]])}
    columns[SUBJECT_COLUMN] = annotations.subjects
    columns |= {name: annotations.boxes[:, index] for index, name in enumerate(BOX_COLUMNS)}
    return pandas.DataFrame(columns)


def _text(value: np.float32) -> str:
    """Returns the fewest digits that restore the float32."""
    return np.format_float_positional(np.float32(value), unique=True, trim="-")
