"""Predicted faces as a pandas data frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.detection.face import Face
from kpdetect.inference.outputs import training_box


def to_dataframe(faces: Sequence[Face] | Sequence[Sequence[Face]], images: Sequence[str] | str | None = None) -> Any:
    """Returns a pandas data frame with a row per face.

    The columns are ``image``, ``NAME_x`` and ``NAME_y`` of each keypoint, ``box_x0,box_y0,box_x1,box_y1`` and
    ``score``, as `kpdetect.data.Annotations.from_dataframe` and CSV readers take them. All coordinates are in pixels.

    Example:
        ``to_dataframe(predictor("photo.jpg"), "photo.jpg").to_csv("faces.csv", index=False)``

    Args:
        faces: The faces of one photograph, or a list of faces for each of several photographs, as
            `Predictor.batch` returns.
        images: The path of the photograph, or those of the photographs; None numbers them from 0.

    Raises:
        KpdetectError: The faces have different schemas, or the numbers of photographs and paths differ.
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("pandas", "train", "to_dataframe") from error
    one = [face for face in faces if isinstance(face, Face)]
    several: list[list[Face]] = [one] if one else [list(group) for group in faces if not isinstance(group, Face)]
    names = [images] if isinstance(images, str) else list(images or [str(number) for number in range(len(several))])
    if len(names) != len(several) and several:
        raise KpdetectError(f"to_dataframe: expected {len(several)} paths of photographs, received {len(names)}")
    all_faces = [face for group in several for face in group]
    schemas = {face.schema.name: face.schema for face in all_faces}
    if len(schemas) > 1:
        raise KpdetectError(f"to_dataframe: expected faces of one scheme, received {', '.join(sorted(schemas))}")
    rows = [
        {"image": name}
        | {
            f"{point}_{axis}": value
            for point, pair in zip(face.schema.point_names, face.keypoints.tolist(), strict=True)
            for axis, value in zip("xy", pair, strict=True)
        }
        | dict(zip(("box_x0", "box_y0", "box_x1", "box_y1"), training_box(face).tolist(), strict=True))
        | {"score": np.nan if face.score is None else face.score}
        for name, group in zip(names, several, strict=False)
        for face in group
    ]
    return pandas.DataFrame(rows)
