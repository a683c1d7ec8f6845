"""The command ``doctor``: versions, devices, codecs and extras, for bug reports."""

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import kpdetect
from kpdetect.core.assets import PACKAGE
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import cv2
from kpdetect.core.options import parse_options, run_command
from kpdetect.modelfile.registry import SHIPPED_MODELS

BASE = ("numpy", "opencv-python", "opencv-python-headless", "ai-edge-litert", "tqdm")
RUNTIMES = ("tensorflow", "keras", "onnxruntime", "jax")


@dataclass(frozen=True)
class DoctorOptions:
    """Prints versions, devices, codecs and extras: what a bug report needs, on one screen."""


@dataclass(frozen=True)
class Extra:
    """An optional set of packages.

    Attributes:
        name: As in ``pip install "kpdetect[NAME]"``.
        modules: Modules that it installs.
        without: What does not work without it.
    """

    name: str
    modules: tuple[str, ...]
    without: str


EXTRAS = (
    Extra("train", ("tensorflow", "keras", "tf2onnx", "ai_edge_quantizer", "matplotlib"), "train, tune, export, show"),
    Extra("onnx", ("onnxruntime",), ".onnx models"),
    Extra("tune", ("optuna",), "tune --random and --search tpe"),
    Extra("gpu", ("tensorflow", "nvidia"), "training on GPUs of NVIDIA"),
    Extra("label", ("ray", "pyarrow"), "label"),
    Extra("jax", ("jax",), "training with --backend jax"),
    Extra("ray", ("ray", "pydantic", "jax"), "training with --workers"),
    Extra("hub", ("huggingface_hub",), "models of the Hugging Face hub, publish"),
    Extra("heif", ("pillow_heif",), "HEIC photographs"),
    Extra("video", ("av",), "H.264, sound and frame times in videos that track writes"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``doctor``.

    Returns:
        The exit status: 1 if a packaged file is missing, otherwise 0.
    """
    parse_options(DoctorOptions, argv, "doctor", "kpdetect doctor")
    missing = list(_missing_files())
    rows = [*_machine(), *_packages(), *_devices(), *_codecs(), *_extras(), *(("missing", text) for text in missing)]
    for title, text in rows:
        print(f"{title:12} {text}")
    return 1 if missing else 0


def _machine() -> Iterator[tuple[str, str]]:
    yield "kpdetect", f"{kpdetect.__version__}, {'a checkout' if _is_checkout() else 'installed'}: {PACKAGE}"
    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "system", f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors"


def _is_checkout() -> bool:
    return (PACKAGE.parent / "exported_models").is_dir()


def _packages() -> Iterator[tuple[str, str]]:
    for title, names in (("packages", BASE), ("runtimes", RUNTIMES)):
        versions = [f"{name} {version}" for name in names if (version := _version(name)) is not None]
        yield title, ", ".join(versions) or "none"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[tuple[str, str]]:
    """Yields graphics cards that the driver shows, and ONNX Runtime's execution providers.

    TensorFlow is not started, which would take seconds.
    """
    cards = sorted(str(card) for card in Path("/dev").glob("nvidia[0-9]*")) if sys.platform == "linux" else []
    yield "gpu", ", ".join(cards) or "none found (training runs on the processor)"
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime  # a small library

        yield "onnx", ", ".join(onnxruntime.get_available_providers())


def _codecs() -> Iterator[tuple[str, str]]:
    """Yields what this OpenCV reads and writes."""
    text = cv2.getBuildInformation()
    lines = {line.split(":")[0].strip(): line.partition(":")[2].strip() for line in text.splitlines() if ":" in line}
    kinds = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "FFMPEG", "GStreamer")
    yield "codecs", ", ".join(f"{kind} {'yes' if _built(lines.get(kind, 'NO')) else 'no'}" for kind in kinds)
    yield "opencv", f"{cv2.__version__}, Haar cascades {'yes' if hasattr(cv2, 'CascadeClassifier') else 'no'}"


def _built(text: str) -> bool:
    return bool(text) and not text.upper().startswith("NO")


def _extras() -> Iterator[tuple[str, str]]:
    for extra in EXTRAS:
        absent = [module for module in extra.modules if importlib.util.find_spec(module) is None]
        state = "complete" if not absent else f"without {', '.join(absent)}: no {extra.without}"
        yield f"[{extra.name}]", state


def _missing_files() -> Iterator[str]:
    for model in SHIPPED_MODELS:
        try:
            _ = model.path
        except KpdetectError as error:
            yield str(error)


if __name__ == "__main__":
    sys.exit(run_command(main))
