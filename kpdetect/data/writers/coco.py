"""Writes labelled faces as COCO keypoints; see `kpdetect.data.readers.coco` for the format."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.data.annotations import Annotations
from kpdetect.data.writers.images import image_files, relative_to


def write_coco(annotations: Annotations, file: str) -> None:
    """Writes a JSON file with one category ``face``, which has the names and edges of the schema.

    Visible points have visibility 2 and others 0. Images without a file are written to ``FILE_images/``. CVAT, FiftyOne
    and pycocotools read the file. ``subject`` of an annotation is an addition to the format.

    Example:
        ``write_coco(load("synthetic:10"), "faces.json")``

    Raises:
        KpdetectError: An image cannot be read, or the file cannot be written.
    """
    folder = Path(file).parent
    images = image_files(annotations, folder / f"{Path(file).stem}_images")
    ids = {path: number for number, path in enumerate(images, start=1)}
    document = {
        "info": {"description": annotations.name, "version": "1.0"},
        "licenses": [{"id": 1, "name": annotations.terms, "url": ""}] if annotations.terms else [],
        "images": [
            {
                "id": ids[path],
                "file_name": relative_to(image.file, folder),
                "width": image.size_hw[1],
                "height": image.size_hw[0],
            }
            for path, image in images.items()
        ],
        "annotations": [_annotation(annotations, row, ids) for row in range(len(annotations))],
        "categories": [
            {
                "id": 1,
                "name": "face",
                "supercategory": "person",
                "keypoints": list(annotations.schema.point_names),
                "skeleton": [[first + 1, second + 1] for first, second in annotations.schema.edges],
            }
        ],
    }
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(document), encoding="utf-8")


def _annotation(annotations: Annotations, row: int, ids: dict[str, int]) -> dict[str, Any]:
    visible = annotations.visible[row]
    points = np.where(visible[:, None], annotations.keypoints[row], 0)
    flat = [
        number
        for point, is_visible in zip(points.tolist(), visible.tolist(), strict=True)
        for number in (*point, 2 if is_visible else 0)
    ]
    x0, y0, x1, y1 = annotations.boxes[row].astype(float).tolist()
    return {
        "id": row + 1,
        "image_id": ids[str(annotations.paths[row])],
        "category_id": 1,
        "keypoints": flat,
        "num_keypoints": int(visible.sum()),
        "bbox": [x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "subject": str(annotations.subjects[row]),
    }
