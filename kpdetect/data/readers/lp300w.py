"""Reader of 300W-LP and AFLW2000-3D: 68 points in MATLAB files beside the images.

MATLAB counts pixels from 1, and 1 is subtracted here.
Format: http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm.
"""

import os
import re
from collections.abc import Mapping

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.matlab import DamagedMatlabFile, read_matlab
from kpdetect.data.readers.rows import BadRow, LabelledFace, Problems, assemble_labelled, image_beside, images_by_stem

LP300W_TERMS = "300W-LP and AFLW2000-3D (Zhu et al., CVPR 2016; photographs of 300-W and AFLW): for research."
_VARIABLES = {"pt3d_68": (3, 68), "pt2d": (2, 68)}  # the first that a file has; pt2d has 21 points in AFLW2000-3D
_ROTATED = re.compile(r"_\d{1,2}$")


def read_300w_lp(folder: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads the points ``pt2d`` or ``pt3d_68`` of MATLAB files. The subject is the photograph.

    300W-LP has several files of each photograph, ``PHOTO_0`` to ``PHOTO_17``, rendered with other head poses.

    Example:
        ``read_300w_lp("300W_LP/AFW")``

    Args:
        folder: Searched for ``.mat`` files at any depth, each beside its image.
        skip_bad_rows: Leave out invalid files and count them, instead of raising.

    Raises:
        DataError: Files are invalid; the error lists all problems.
        KpdetectError: The folder does not exist or has no ``.mat`` file.
    """
    if not os.path.isdir(folder):
        raise KpdetectError(f"{folder}: expected a folder of .mat files, found nothing")
    faces: list[LabelledFace | Problems] = []
    for here, folders, names in os.walk(folder):
        folders.sort()
        images = images_by_stem(here, names)
        labels = sorted(name for name in names if name.lower().endswith(".mat"))
        faces += [_face(os.path.join(here, name), images) for name in labels if os.path.splitext(name)[0] in images]
        # 300W-LP's folder "landmarks" has other .mat files, without images beside them.
    if not faces:
        raise KpdetectError(f"{folder}: expected .mat files beside their images at any depth, found none")
    name = f"300w-lp:{os.path.basename(os.path.abspath(folder))}"
    return assemble_labelled(faces, IBUG68, name, LP300W_TERMS, skip_bad_rows)


def _face(file: str, images: Mapping[str, str]) -> LabelledFace | Problems:
    try:
        path = image_beside(file, images)
        with open(file, "rb") as stream:
            arrays = read_matlab(stream.read())
        shapes = {name: array.shape for name, array in arrays.items()}
        found = next((name for name, shape in _VARIABLES.items() if shapes.get(name) == shape), None)
        if found is None:
            raise BadRow(f"{file}: expected pt2d of 2 x 68 or pt3d_68 of 3 x 68 numbers, found {str(shapes)[:120]}")
        points = arrays[found][:2].T - 1
    except BadRow as bad:
        return bad.args
    except (DamagedMatlabFile, OSError) as error:
        return (f"{file}: expected a MATLAB file of version 5 to 7.2: {error}",)
    if not np.isfinite(points).all():
        return (f"{file}: expected finite coordinates",)
    folder, stem = os.path.split(os.path.splitext(path)[0])
    return LabelledFace(file, path, points.astype(np.float32), None, os.path.join(folder, _ROTATED.sub("", stem)))
