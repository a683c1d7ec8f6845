"""Writes labelled faces as the XML of dlib's ``imglab``, which dlib trains shape predictors from."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations
from kpdetect.data.writers.images import image_files, relative_to, rows_by_path


def write_dlib(annotations: Annotations, file: str) -> None:
    """Writes an XML file with coordinates rounded to whole pixels, since dlib reads no others.

    The parts have the names of the points, those of iBUG's 68 points the numbers 00 to 67. Points that are not visible
    have no part. Images without a file are written to ``FILE_images/``.

    Example:
        ``write_dlib(load("synthetic:10"), "faces.xml")``

    Raises:
        KpdetectError: An image cannot be read, or the file cannot be written.
    """
    folder = Path(file).parent
    images = image_files(annotations, folder / f"{Path(file).stem}_images")
    is_ibug = annotations.schema.point_names == IBUG68.point_names
    names = [f"{index:02d}" for index in range(68)] if is_ibug else list(annotations.schema.point_names)
    rows = rows_by_path(annotations)
    with atomic_file(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("<?xml version='1.0' encoding='UTF-8'?>\n<dataset>\n")
        stream.write(f"<name>{_text(annotations.name)}</name>\n<images>\n")
        for path, image in images.items():
            height, width = image.size_hw
            place = quoteattr(relative_to(image.file, folder))
            stream.write(f"<image file={place} width='{width}' height='{height}'>\n")
            for row in rows[path]:
                left, top, right, bottom = np.rint(annotations.boxes[row]).astype(int).tolist()
                size = f"width='{right - left + 1}' height='{bottom - top + 1}'"
                stream.write(f"<box top='{top}' left='{left}' {size}>\n")
                points = np.rint(annotations.keypoints[row]).astype(int).tolist()
                for name, (x, y), visible in zip(names, points, annotations.visible[row], strict=True):
                    if visible:
                        stream.write(f"<part name={quoteattr(name)} x='{x}' y='{y}'/>\n")
                stream.write("</box>\n")
            stream.write("</image>\n")
        stream.write("</images>\n</dataset>\n")


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
