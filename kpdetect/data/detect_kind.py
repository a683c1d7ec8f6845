"""Detects the format of labels from a file's or folder's content, for a SPEC without a kind."""

import json
import os
import re
from typing import Any

_START_BYTES = 1 << 16
_MAX_FILES = 2000  # of a folder that are looked at


def detect_kind(place: str) -> str | None:
    """Returns the kind of SPEC that reads a file or folder, such as ``csv`` or ``coco``; None if it is unknown.

    Args:
        place: Path of a file or folder.
    """
    if os.path.isdir(place):
        return _kind_of_folder(place)
    if not os.path.isfile(place):
        return None
    suffix = os.path.splitext(place)[1].lower()
    try:
        with open(place, "rb") as stream:
            start = stream.read(_START_BYTES)
    except OSError:
        return None
    text = start.decode("utf-8-sig", "replace").lstrip()
    if suffix in (".yaml", ".yml"):
        return "yolo" if "kpt_shape" in text else None
    if text[:1] == "<":
        return _kind_of_xml(text)
    if text[:1] in ("{", "["):
        return _kind_of_json(place)
    first = text.partition("\n")[0]
    if suffix in (".txt", ".lst") and len(first.split()) in (197, 201, 207):
        return "wflw"
    if suffix not in (".csv", ".tsv", ".txt") or not re.search(r"[,;\t]", first):
        return None
    return "kaggle" if "Image" in first.strip().split(",") and _has_pixels(text) else "csv"


def _has_pixels(text: str) -> bool:
    second = text.partition("\n")[2][:20_000]
    return re.search(r"(?:\d+ ){100}", second) is not None


def _kind_of_xml(text: str) -> str | None:
    root = re.search(r"<\s*([A-Za-z][\w-]*)", re.sub(r"<[?!][^>]*>|<!--.*?-->", "", text, flags=re.DOTALL))
    if root is None or root[1] not in ("dataset", "annotations"):
        return None
    if root[1] == "annotations":
        return "cvat"
    return "ibug" if re.search(r"<part[^>]*name=['\"]67['\"]", text) else "dlib"


def _kind_of_json(file: str) -> str | None:
    try:
        with open(file, encoding="utf-8-sig") as stream:
            document: Any = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(document, list):
        return "label-studio" if document and isinstance(document[0], dict) and "data" in document[0] else None
    return "coco" if isinstance(document, dict) and {"images", "annotations"} <= document.keys() else None


def _kind_of_folder(folder: str) -> str | None:
    names = set(os.listdir(folder))
    if "training_frames_keypoints.csv" in names:
        return "youtube-faces"
    if "data.yaml" in names:
        return "yolo"
    seen = 0
    kinds = {".pts": "ibug", ".asf": "imm", ".mat": "300w-lp"}
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in kinds:
                return kinds[suffix]
            if suffix == ".json" and _is_labelme(os.path.join(here, name)):
                return "labelme"
            seen += 1
            if seen > _MAX_FILES:
                return None
    return None


def _is_labelme(file: str) -> bool:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return '"shapes"' in stream.read(_START_BYTES)
    except OSError:
        return False
