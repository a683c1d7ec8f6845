"""Writes labelled faces as Label Studio tasks; see `kpdetect.data.readers.label_studio` for the format."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from kpdetect.core.atomic_write import atomic_file
from kpdetect.data.annotations import Annotations
from kpdetect.data.writers.images import WrittenImage, image_files, relative_to, rows_by_path

CONFIG_SUFFIX = "_config.xml"
"""End of the name of the labelling interface that belongs to a file."""


def write_label_studio(annotations: Annotations, file: str) -> None:
    """Writes a JSON file of tasks, and the labelling interface with the names of the points beside it.

    A face is a rectangle and, as its children, its visible points. Images are addressed as local files,
    ``/data/local-files/?d=PATH`` with a path relative to the JSON's folder, which is Label Studio's document root then;
    images without a file are written to ``FILE_images/``.

    Example:
        ``write_label_studio(load("synthetic:10"), "tasks.json")``, which also writes ``tasks_config.xml``

    Raises:
        KpdetectError: An image cannot be read, or a file cannot be written.
    """
    target = Path(file)
    images = image_files(annotations, target.parent / f"{target.stem}_images")
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/local-files/?d={quote(relative_to(images[path].file, target.parent))}"},
            "annotations": [
                {"result": [part for row in rows for part in _face(annotations, row, images[path])]},
            ],
        }
        for number, (path, rows) in enumerate(rows_by_path(annotations).items(), start=1)
    ]
    labels = "".join(
        f"    <Label value={quoteattr(name)} model_index={quoteattr(str(index))}/>\n"
        for index, name in enumerate(annotations.schema.point_names)
    )
    config = (
        '<View>\n  <Image name="image" value="$image"/>\n'
        '  <RectangleLabels name="box" toName="image">\n    <Label value="face"/>\n  </RectangleLabels>\n'
        f'  <KeyPointLabels name="points" toName="image">\n{labels}  </KeyPointLabels>\n</View>\n'
    )
    with atomic_file(target.with_name(target.stem + CONFIG_SUFFIX)) as temporary:
        temporary.write_text(config, encoding="utf-8")
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(tasks, indent=1), encoding="utf-8")


def _face(annotations: Annotations, row: int, image: WrittenImage) -> list[dict[str, Any]]:
    """The rectangle and the points of a face, in per cent of the image."""
    height, width = image.size_hw
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    x0, y0, x1, y1 = annotations.boxes[row].astype(float).tolist()
    box = {"x": _percent(x0, width), "y": _percent(y0, height)}
    box |= {"width": 100 * (x1 - x0) / width, "height": 100 * (y1 - y0) / height, "rotation": 0}
    region = f"face{row}"
    parts: list[dict[str, Any]] = [
        {
            "id": region,
            "from_name": "box",
            "type": "rectanglelabels",
            "value": {**box, "rectanglelabels": ["face"]},
            **common,
        }
    ]
    for index, name in enumerate(annotations.schema.point_names):
        if annotations.visible[row, index]:
            x, y = annotations.keypoints[row, index].astype(float).tolist()
            value = {"x": _percent(x, width), "y": _percent(y, height), "width": 0.5, "keypointlabels": [name]}
            point = {"id": f"{region}-{index}", "from_name": "points", "type": "keypointlabels", "parentID": region}
            parts.append({**point, "value": value, **common})
    return parts


def _percent(pixels: float, size: int) -> float:
    return 100 * (pixels + 0.5) / size
