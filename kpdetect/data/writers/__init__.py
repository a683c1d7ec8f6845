"""Writers: one module for each label format, all of which take `Annotations`."""

import os
import re
from collections.abc import Callable

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.data.annotations import Annotations
from kpdetect.data.writers.coco import write_coco
from kpdetect.data.writers.dlib_xml import write_dlib
from kpdetect.data.writers.label_studio import write_label_studio
from kpdetect.data.writers.tables import to_dataframe, write_csv
from kpdetect.data.writers.yolo import write_yolo

__all__ = [
    "WRITERS",
    "to_dataframe",
    "write",
    "write_coco",
    "write_csv",
    "write_dlib",
    "write_label_studio",
    "write_yolo",
]

WRITERS: dict[str, Callable[[Annotations, str], None]] = {
    "csv": write_csv,
    "coco": write_coco,
    "yolo": write_yolo,
    "dlib": write_dlib,
    "label-studio": write_label_studio,
}
"""The formats that can be written, by the kind of their SPEC."""

_KIND_OF_SUFFIX = {".csv": "csv", ".json": "coco", ".xml": "dlib"}


def write(annotations: Annotations, spec: str) -> str:
    """Writes labelled faces in the format that a SPEC names.

    Example:
        ``write(load("ibug:300w"), "coco:faces.json")``

    Args:
        annotations: The faces.
        spec: ``csv:FILE``, ``coco:FILE.json``, ``dlib:FILE.xml``, ``label-studio:FILE.json`` or ``yolo:DIR``;
            or a file of such a suffix.

    Returns:
        The SPEC that reads what was written.

    Raises:
        KpdetectError: The kind is unknown, an image cannot be read, or the target cannot be written.
    """
    kind, _, place = spec.partition(":")
    names_kind = bool(place) and len(kind) > 1 and not re.search(r"[/\\]", kind)  # one letter is a drive of Windows
    suffix = os.path.splitext(spec)[1].lower()
    if not names_kind and kind not in WRITERS and suffix in _KIND_OF_SUFFIX:
        kind, place = _KIND_OF_SUFFIX[suffix], spec
    if kind not in WRITERS:
        raise unknown_name("format to write", kind, WRITERS)
    if not place:
        raise KpdetectError(f"expected {kind}:PLACE to write to, received nothing after the kind")
    WRITERS[kind](annotations, place)
    return f"{kind}:{os.path.join(place, 'data.yaml') if kind == 'yolo' else place}"
