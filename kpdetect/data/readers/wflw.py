"""Reader of the lists of WFLW: 98 points, a box, six attributes and the image's path in each line.

Coordinates are pixels, 0-based, with the pixel centre on the integer, and are not converted.
Format: https://wywu.github.io/projects/LAB/WFLW.html.
"""

import os

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import WFLW98
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.files import find_image
from kpdetect.data.readers.rows import BadRow, LabelledFace, Line, Problems, assemble_labelled, parse_number, text_lines

WFLW_TERMS = "WFLW (Wu et al., CVPR 2018; photographs of WIDER FACE): for research."
_COORDINATES = 2 * WFLW98.num_keypoints
_FIELDS = (_COORDINATES + 1, _COORDINATES + 5, _COORDINATES + 11)  # path alone; a box; a box and six attributes


def read_wflw(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads a list of WFLW. The box of a face is the tight box of its points; the subject is the image.

    Images are looked for in the list's folder, in ``WFLW_images/`` beside it, and in the three folders above.

    Example:
        ``read_wflw("WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt")``

    Args:
        file: The list, with or without boxes and attributes, which are not used.
        skip_bad_rows: Leave out invalid lines and count them, instead of raising.

    Raises:
        DataError: Lines are invalid; the error lists all problems.
        KpdetectError: The file does not exist or is empty.
    """
    if not os.path.isfile(file):
        raise KpdetectError(f"{file}: expected a list of WFLW, found nothing")
    try:
        lines = text_lines(file)
    except BadRow as bad:
        raise KpdetectError(str(bad)) from bad
    if not lines:
        raise KpdetectError(f"{file}: expected lines of 98 points and a path, found an empty file")
    folder = os.path.dirname(os.path.abspath(file))
    above = [folder, *(os.path.normpath(os.path.join(folder, *[".."] * depth)) for depth in (1, 2, 3))]
    folders = [place for base in above for place in (base, os.path.join(base, "WFLW_images"))]
    faces = [_face(line, folders) for line in lines]
    return assemble_labelled(faces, WFLW98, f"wflw:{os.path.basename(file)}", WFLW_TERMS, skip_bad_rows)


def _face(line: Line, folders: list[str]) -> LabelledFace | Problems:
    fields = line.text.split()
    try:
        if len(fields) not in _FIELDS:
            raise BadRow(f"expected {_FIELDS[0]}, {_FIELDS[1]} or {_FIELDS[2]} fields, received {len(fields)}")
        values = [parse_number(text) for text in fields[:_COORDINATES]]
        if None in values:
            raise BadRow(f"expected coordinates, received '{fields[values.index(None)][:40]}'")
        path = find_image(fields[-1], folders)
    except BadRow as bad:
        return bad.at(line.where).args
    return LabelledFace(line.where, path, np.array(values, np.float32).reshape(-1, 2))
