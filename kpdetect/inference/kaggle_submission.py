"""The submission CSV of Kaggle's Facial Keypoints Detection: one coordinate per row, chosen by a lookup table."""

import csv
import os
import re

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema

LOOKUP_FILE = "IdLookupTable.csv"
HEADER = "RowId,Location"


def lookup_file_beside(data_file: str) -> str | None:
    """Returns the lookup table beside ``test.csv``, or None if there is none."""
    file = os.path.join(os.path.dirname(data_file), LOOKUP_FILE)
    return file if os.path.isfile(file) else None


def kaggle_submission(keypoints: npt.ArrayLike, schema: KeypointSchema, lookup_file: str | None = None) -> str:
    """Returns the text of the submission CSV.

    Example:
        >>> from kpdetect.core.schema import user_schema
        >>> print(kaggle_submission([[[10.5, 20.0]]], user_schema(["nose_tip"])), end="")
        RowId,Location
        1,10.5
        2,20.0

    Args:
        keypoints: (N, K, 2) in pixels, of the images 1 to N.
        schema: The schema of the points, which has the names of the competition.
        lookup_file: The competition's table ``RowId,ImageId,FeatureName``, which lists the required coordinates
            in their order. Without one, all coordinates are numbered image by image.

    Raises:
        KpdetectError: The table is invalid, or a wanted coordinate is missing; the text names the line.
    """
    points = np.asarray(keypoints, np.float32)
    if points.ndim != 3 or points.shape[1:] != (schema.num_keypoints, 2):
        raise KpdetectError(
            f"Kaggle submission: expected points of shape (N, {schema.num_keypoints}, 2), received {points.shape}"
        )
    names = [f"{name}_{axis}" for name in schema.point_names for axis in "xy"]
    values = points.reshape(len(points), -1)
    if lookup_file is None:
        wanted = [(str(row + 1), row // len(names), row % len(names)) for row in range(values.size)]
    else:
        wanted = _wanted(lookup_file, names, len(values))
    missing = [row for row, image, column in wanted if not np.isfinite(values[image, column])]
    if missing:
        raise KpdetectError(f"Kaggle submission: no prediction for row {missing[0]} and {len(missing) - 1} more")
    # The fewest digits that restore the same float32, without an exponent.
    texts = (np.format_float_positional(values[image, column], unique=True, trim="0") for _, image, column in wanted)
    return "\n".join([HEADER, *(f"{row},{text}" for (row, _, _), text in zip(wanted, texts, strict=True))]) + "\n"


def _wanted(file: str, names: list[str], num_images: int) -> list[tuple[str, int, int]]:
    """Returns the row id, the image's index and the coordinate's index of each row of the table."""
    column_of = {name: index for index, name in enumerate(names)}
    wanted = []
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            for row in reader:
                row_id, image_id, name = (row.get(key) or "" for key in ("RowId", "ImageId", "FeatureName"))
                number = int(image_id) if re.fullmatch(r"[0-9]{1,9}", image_id) else 0
                if not 1 <= number <= num_images or not re.fullmatch(r"[0-9]{1,9}", row_id):
                    raise KpdetectError(
                        f"{file}:{reader.line_num}: expected RowId and an ImageId of 1 to {num_images}, received "
                        f"'{row_id[:20]}', '{image_id[:20]}'"
                    )
                if name not in column_of:
                    raise KpdetectError(f"{file}:{reader.line_num}: the model predicts no '{name[:60]}'")
                wanted.append((row_id, number - 1, column_of[name]))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise KpdetectError(f"{file}: expected a CSV file in UTF-8; reading it failed: {error}") from error
    return wanted
