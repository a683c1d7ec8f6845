"""The files of the page for browsers: the built page, the model, the face finder, and the settings that they share.

The sources are in ``web`` of the repository; ``web/build.mjs`` builds them into ``web/built``, which is packaged as
``kpdetect/_web``. Neither Node.js nor TensorFlow is needed here.
"""

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from kpdetect import detection
from kpdetect.core.assets import PACKAGE, packaged_file
from kpdetect.core.errors import KpdetectError
from kpdetect.detection import finder, scan
from kpdetect.exporters.fixed_shape import with_fixed_shape
from kpdetect.filters import load_filter
from kpdetect.inference import face_crops, predictor
from kpdetect.measures import MEAN_FACE
from kpdetect.modelfile.spec import SPEC_FILE, Spec

WEB = "web"
MODEL_FILE, GPU_MODEL_FILE, FINDER_FILE, SETTINGS_FILE = (
    "model.tflite",
    "model_webgpu.tflite",
    "finder.tflite",
    "settings.json",
)
_DETECTOR = (
    *("cell", "size_unit", "output_unit", "stride", "smallest_seen", "smallest_face", "last_level", "level_ratio"),
    *("least_bilinear", "gap", "min_face", "min_score", "judged_score", "max_candidates", "max_turned"),
    *("certain_roll_deg", "certain_score", "likely_detection", "same_place", "retry_score", "nested"),
    *("worth_refining", "promising_score"),
)
FINDER_SIDE = 256  # of the packaged file of fixed size; the page changes it for each picture


def built_page() -> Path:
    """Returns the folder of the built page, without a model.

    Raises:
        KpdetectError: It is not part of this installation.
    """
    places = (PACKAGE / "_web", PACKAGE.parent / "web" / "built")
    for place in places:
        if (place / "index.html").is_file():
            return place
    raise KpdetectError(
        f"the page for browsers is not part of this installation of kpdetect (looked in "
        f"{', '.join(map(str, places))}); reinstall kpdetect, or build it with 'node web/build.mjs'"
    )


def page_files(spec: Spec, models: Mapping[str, bytes | Path]) -> dict[str, bytes | Path]:
    """Returns all files of a page by their names in its folder: paths, or contents that are made here.

    Example:
        ``page_files(spec, {"wasm": Path("mine_b1.tflite")})["settings.json"]``

    Args:
        spec: The model's description.
        models: TFLite files of batch 1, or their contents, by accelerator: ``wasm``, and perhaps ``webgpu``, which
            needs float weights.

    Raises:
        KpdetectError: The page or the face finder is not part of this installation.
    """
    page = built_page()
    files: dict[str, bytes | Path] = {
        path.relative_to(page).as_posix(): path for path in sorted(page.rglob("*")) if path.is_file()
    }
    files[MODEL_FILE] = models["wasm"]
    names = {"wasm": MODEL_FILE}
    if "webgpu" in models:
        same = models["webgpu"] == models["wasm"]
        names["webgpu"] = MODEL_FILE if same else GPU_MODEL_FILE
        files[names["webgpu"]] = models["webgpu"]
    detects = spec.crop.around == "face"
    if detects:
        files[FINDER_FILE] = fixed_finder()
    filters, pictures = _filters()
    files |= {f"filters/{name}": path for name, path in pictures.items()}
    files[SPEC_FILE] = spec.to_json().encode()
    settings = {
        "models": names,
        "finder": FINDER_FILE if detects else None,
        "bytes": {name: _size(content) for name, content in files.items() if name.endswith((".tflite", ".gz"))},
        "detector": finder_settings(),
        "scan": scan_settings(),
        "min_score": detection.FACE_SCORE,
        "filters": filters,
        "mean_face": dict(MEAN_FACE),
    }
    files[SETTINGS_FILE] = (json.dumps(settings, indent=2) + "\n").encode()
    return files


def fixed_finder() -> bytes:
    """Returns the packaged face finder with a fixed input of 256 x 256 pixels.

    Raises:
        KpdetectError: It is not part of this installation.
    """
    hint = "use a model of whole pictures"
    try:
        return packaged_file("finder", f"finder_{FINDER_SIDE}.tflite", hint).read_bytes()
    except KpdetectError:
        path = packaged_file("finder", finder.FINDER_FILE, hint)
    return with_fixed_shape(path.read_bytes(), (1, FINDER_SIDE, FINDER_SIDE, 1), path.name)


def finder_settings() -> dict[str, float]:
    """Returns the constants of `kpdetect.detection.FaceFinder`, and those by which `Predictor` filters its faces."""
    constants = {**vars(finder), **vars(face_crops), **vars(predictor)}
    return {name: constants[name.upper()] for name in _DETECTOR}


def scan_settings() -> dict[str, Any]:
    """Returns the constants of the search with the landmark model, `kpdetect.detection.scan`."""
    return {
        "sides": scan.SIDES,
        "step": scan.STEP,
        "smallest": scan.SMALLEST,
        "longest": scan.LONGEST,
        "same_face": scan.SAME_FACE,
        "least_score": scan.LEAST_SCORE,
    }


def _filters() -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """Returns the descriptions of the packaged filters, and their pictures by name."""
    found, pictures = [], {}
    with resources.as_file(resources.files("kpdetect.filters").joinpath("pictures")) as folder:
        for path in sorted(folder.glob("*.json")):
            description = json.loads(path.read_text(encoding="utf-8"))
            for name in (description["picture"], *(arm["picture"] for arm in description.get("arms", ()))):
                pictures[name] = folder / name
            one = load_filter(path.stem)
            found.append({"name": path.stem, **description, "drawn": one.drawn, "outer_rows": one.outer_rows})
    return found, pictures


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else os.stat(content).st_size
