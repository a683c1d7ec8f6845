"""Builds the browser page from its sources with npm and adds the files that it reads.

The sources are in ``kpdetect/web``. The built page is 30 MB (10 MB in a wheel), so it is not packaged: the first export
builds it and stores it in the user's cache (``XDG_CACHE_HOME``, by default ``~/.cache``), named by the sources' digest.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect import detection
from kpdetect.core.assets import PACKAGE
from kpdetect.core.atomic_write import atomic_folder
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels, write_image
from kpdetect.data import synthetic
from kpdetect.detection import boxes, haar, scan
from kpdetect.filters import load_filter
from kpdetect.measures import MEAN_FACE

WEB = "web"
MODEL_FILE = "model.tflite"

SOURCES = PACKAGE / "web"
NOT_SOURCES = ("node_modules", "dist")  # left by npm in a checkout
OLDEST_NODE = (20, 19)  # required by Vite
EXAMPLE_FACES, EXAMPLE_SIZE = ((7, 5), (7, 11)), 480  # seed and index; the detector finds both


def write_page(folder: Path) -> None:
    """Writes the static folder of the page, without `MODEL_FILE` and its ``spec.json``.

    Args:
        folder: The folder to create.

    Raises:
        KpdetectError: The page cannot be built, or OpenCV has no Haar cascades.
    """
    shutil.copytree(built_page(), folder)
    filters = _filters(folder / "filters")
    settings = {
        "detector": _detector(folder / "cascades"),
        "scan": _scan(),
        "min_score": detection.FACE_SCORE,
        "filters": filters,
        "mean_face": dict(MEAN_FACE),
    }
    (folder / "page.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    write_image(folder / "example.png", example())


def built_page() -> Path:
    """Returns the folder of the built page without a model, from the cache or built now (npm downloads 90 MB).

    Raises:
        KpdetectError: Node.js is missing or too old, or npm failed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "kpdetect" / f"page-{_digest()}"
    if not (kept / "index.html").is_file():
        _build(kept)
    return kept


def npm_path(built: Path) -> str:
    """Returns the path of npm after a check of Node.js' version.

    Args:
        built: Folder that may be copied from another machine instead; named in the error.

    Raises:
        KpdetectError: Node.js or npm is missing or too old.
    """
    npm, node = shutil.which("npm"), shutil.which("node")
    oldest = ".".join(map(str, OLDEST_NODE))
    fix = f"install Node.js {oldest} or later, or copy {built} from a machine that has exported a page"
    if npm is None or node is None:
        raise KpdetectError(f"format 'web': node and npm are needed to build the page, and are not on the PATH; {fix}")
    version = _run([node, "--version"], Path.cwd()).strip()
    if tuple(int(part) for part in version.lstrip("v").split(".")[:2]) < OLDEST_NODE:
        raise KpdetectError(f"format 'web': expected Node.js {oldest} or later, received {version}; {fix}")
    return npm


def example() -> Pixels:
    """Returns a picture of synthetic faces to try the page with: (H, W, 3) uint8 RGB."""
    return np.hstack([synthetic.render(seed, index, EXAMPLE_SIZE)[0] for seed, index in EXAMPLE_FACES])


def _build(target: Path) -> None:
    npm = npm_path(target)
    with tempfile.TemporaryDirectory() as passing:
        work = Path(passing) / WEB  # a copy, because the folder of an installed package may be read-only
        shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns(*NOT_SOURCES))
        _run([npm, "ci", "--omit=dev", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"], work)
        _run([npm, "run", "build"], work)
        with atomic_folder(target, overwrite=True) as folder:
            shutil.copytree(work / "dist", folder, dirs_exist_ok=True)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
        message = " / ".join(lines[:3]) or f"exit status {done.returncode}"
        raise KpdetectError(
            f"format 'web': {' '.join(command[1:3])} failed: {message}; the first build needs a network"
        )
    return done.stdout


def _digest() -> str:
    """Returns a digest of the sources, which names the built page."""
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    tops = [path for path in SOURCES.iterdir() if path.name not in NOT_SOURCES]
    return [file for top in tops for file in (top.rglob("*") if top.is_dir() else [top]) if file.is_file()]


def _detector(folder: Path) -> dict[str, Any]:
    """Copies the cascades' files and returns the parameters of `kpdetect.detection.HaarDetector`."""
    folder.mkdir()
    for file in {cascade.file for cascade in detection.CASCADES}:
        shutil.copyfile(detection.cascade_path(file), folder / file)
    return {
        "cascades": [dataclasses.asdict(cascade) for cascade in detection.CASCADES],
        "smallest_window": haar.SMALLEST_WINDOW,
        "smallest_face": haar.SMALLEST_FACE,
        "border": haar.BORDER,
        "same_face": boxes.FUSED,
        "inside": boxes.CONTAINED,
        "min_votes": haar.MIN_VOTES,
        "judged_votes": haar.JUDGED_VOTES,
    }


def _scan() -> dict[str, Any]:
    """Returns the parameters of the search with the landmark model, `kpdetect.detection.scan`."""
    return {
        "sides": scan.SIDES,
        "step": scan.STEP,
        "smallest": scan.SMALLEST,
        "longest": scan.LONGEST,
        "same_face": scan.SAME_FACE,
        "least_score": scan.LEAST_SCORE,
    }


def _filters(folder: Path) -> list[dict[str, Any]]:
    """Copies the pictures of the packaged filters and returns their descriptions."""
    folder.mkdir()
    found = []
    with resources.as_file(resources.files("kpdetect.filters").joinpath("pictures")) as pictures:
        for path in sorted(pictures.glob("*.json")):
            description = json.loads(path.read_text(encoding="utf-8"))
            for picture in (description["picture"], *(arm["picture"] for arm in description.get("arms", ()))):
                shutil.copyfile(pictures / picture, folder / picture)
            one = load_filter(path.stem)
            found.append({"name": path.stem, **description, "drawn": one.drawn, "outer_rows": one.outer_rows})
    return found
