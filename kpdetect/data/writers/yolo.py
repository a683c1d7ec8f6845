"""Writes labelled faces as a YOLO pose data set; see `kpdetect.data.readers.yolo` for the format."""

import json
import shutil

from kpdetect.core.atomic_write import atomic_folder
from kpdetect.data.annotations import Annotations
from kpdetect.data.writers.images import image_files, rows_by_path


def write_yolo(annotations: Annotations, folder: str) -> None:
    """Writes a folder with ``data.yaml``, ``images/train/`` (copies) and ``labels/train/``.

    All faces are in the split ``train``, which ``data.yaml`` also names as ``val``, as Ultralytics needs one: split the
    set before, or put other images into ``images/val/``.

    Example:
        ``write_yolo(load("synthetic:10"), "faces_yolo")``

    Raises:
        KpdetectError: The folder exists, an image cannot be read, or the folder cannot be written.
    """
    schema = annotations.schema
    with atomic_folder(folder) as temporary:
        pictures, labels = temporary / "images" / "train", temporary / "labels" / "train"
        pictures.mkdir(parents=True)
        labels.mkdir(parents=True)
        rows = rows_by_path(annotations)
        used: set[str] = set()
        for path, image in image_files(annotations, pictures).items():
            stem, number = image.file.stem, 1
            while stem.lower() in used:
                number += 1
                stem = f"{image.file.stem}_{number}"
            used.add(stem.lower())
            target = pictures / f"{stem}{image.file.suffix}"
            if image.file.parent != pictures:
                shutil.copyfile(image.file, target)
            lines = [_line(annotations, row, image.size_hw) for row in rows[path]]
            (labels / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # JSON values are valid YAML, so that names of any kind are quoted rightly.
        entries = {
            "train": "images/train",
            "val": "images/train",
            "kpt_shape": [schema.num_keypoints, 3],
            "flip_idx": None if schema.flip_permutation is None else list(schema.flip_permutation),
            "names": ["face"],
            "kpt_names": {0: list(schema.point_names)},
        }
        text = "".join(f"{key}: {_yaml(value)}\n" for key, value in entries.items() if value is not None)
        (temporary / "data.yaml").write_text(text, encoding="utf-8")


def _yaml(value: object) -> str:
    if isinstance(value, dict):
        return "".join(f"\n  {key}: {json.dumps(part, ensure_ascii=False)}" for key, part in value.items())
    return json.dumps(value, ensure_ascii=False)


def _line(annotations: Annotations, row: int, size_hw: tuple[int, int]) -> str:
    height, width = size_hw
    x0, y0, x1, y1 = annotations.boxes[row].astype(float)
    box = [(x0 + x1 + 1) / 2 / width, (y0 + y1 + 1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
    visible = annotations.visible[row]
    relative = (annotations.keypoints[row].astype(float) + 0.5) / (width, height)
    points = [
        (*point, 2) if is_visible else (0.0, 0.0, 0)
        for point, is_visible in zip(relative.tolist(), visible.tolist(), strict=True)
    ]
    fields = [f"{value:.9g}" for value in box]
    fields += [text for x, y, visibility in points for text in (f"{x:.9g}", f"{y:.9g}", str(visibility))]
    return " ".join(["0", *fields])
