"""Owns the way out: a bundle as SavedModel, TFLite, ONNX or ``.keras`` file, each compared with Keras before it counts.

The command prints one line per file: its path, its size, and its greatest difference from Keras.
"""

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kpdetect import bundle, cli, runtime
from kpdetect.atomic import atomic_folder
from kpdetect.converters import QUANTIZED_TFLITE, SAVED_MODEL, WRITERS, Writer
from kpdetect.errors import KpdetectError, MissingExtra, unknown_name
from kpdetect.spec import OUTPUT_NAME, SPEC_FILE, UNCERTAINTY_NAME, FileRecord, Spec

if TYPE_CHECKING:
    import keras

DEFAULT_FORMATS = (SAVED_MODEL, "tflite", "onnx")
NUM_PROBES = 32
HALF_PRECISION_PX = 2.0  # on waves and noise, where no point is sure; a face has hundredths (see its own result row)
PROBE_BATCHES = (NUM_PROBES, 1, 16)  # a batch size that was baked into a reshape shows here


@dataclass(frozen=True)
class ExportOptions:
    """Writes a model as SavedModel, TFLite and ONNX; each file is run in its own runtime and compared with Keras."""

    model: str = cli.option(dataclasses.MISSING, "bundle folder with its weights", positional=True)
    out: str = cli.option(dataclasses.MISSING, "folder to write; it becomes a bundle too", metavar="DIR")
    formats: tuple[str, ...] = cli.option(
        DEFAULT_FORMATS, "comma-separated: saved_model, tflite, onnx, keras", metavar="LIST"
    )
    quantize: tuple[str, ...] = cli.option(
        ("none",), "how TFLite keeps weights, a file each: none (float32), fp16 (half the bytes)", metavar="LIST"
    )
    # Rounding alone gives 1e-4 px of a 112 crop; a real fault, such as another padding, gives whole pixels.
    tolerance_px: float = cli.option(0.01, "greatest difference from Keras that passes, in pixels of the crop")
    overwrite: bool = cli.option(False, "replace the bundle that --out holds")


def export_model(
    bundle_folder: bundle.PathLike,
    out: bundle.PathLike,
    formats: Sequence[str] = DEFAULT_FORMATS,
    tolerance_px: float = 0.01,
    overwrite: bool = False,
    quantize: Sequence[str] = ("none",),
) -> Spec:
    """Writes a bundle with its model in other formats, all of it or nothing.

    In every file the input is ``image``, (B, H, W, C) float32 of raw pixels 0-255, and the output ``keypoints``,
    (B, K, 2) float32 relative to the crop; B is free; the spec is inside.

    Args:
        bundle_folder: The bundle, with weights.
        out: The folder to write: ``model.weights.h5``, ``spec.json``, ``saved_model/``, ``NAME.tflite``, ``NAME.onnx``.
        formats: Any of ``saved_model``, ``tflite``, ``onnx``, ``keras``.
        tolerance_px: The greatest difference from Keras that passes, in pixels of the crop; for float16 weights, two
            pixels pass.
        overwrite: Replace the bundle that `out` holds.
        quantize: How TFLite keeps weights, a file each: ``none`` (float32) as ``NAME.tflite``, ``fp16`` as
            ``NAME_fp16.tflite``.

    Returns:
        The spec as written; its ``files`` hold each file's ``max_difference_px``.

    Raises:
        KpdetectError: A format is unknown, `out` holds something, or a file differs too much; nothing is written then.
        MissingExtra: TensorFlow or a converter is not installed.
    """
    _check_formats(formats, quantize)
    bundle.checked_weights(bundle_folder)  # a wrong path is told before TensorFlow takes seconds to start
    _check_out(Path(bundle_folder), Path(out), overwrite)
    _check_packages(formats)
    with cli.quietly(f"reading {bundle_folder}"), _exact_float32():
        model, spec = bundle.load_bundle(bundle_folder)
        probes = probe_crops(NUM_PROBES, spec.input_shape)
        expected = all_outputs(model(probes.astype(np.float32), training=False))
    with atomic_folder(out, overwrite=Path(out).exists()) as folder:
        written = bundle.write_bundle(model, spec, folder)
        records = dict(written.files)
        for path, exact in _write_all(model, written, folder, formats, quantize):
            with cli.quietly(f"comparing {path.name} with Keras"), _exact_float32():
                difference = greatest_difference(runtime.load(path), probes, expected)
            _check_difference(path.name, difference, tolerance_px if exact else max(tolerance_px, HALF_PRECISION_PX))
            records |= _records(path, folder, difference)
        exported = dataclasses.replace(written, files=records)
        bundle.write_spec(exported, folder)
    return exported


def all_outputs(outputs: Any) -> npt.NDArray[np.float32]:
    """Everything a model tells of its crops as one array: (N, K, 2), or (N, K, 3) with the uncertainty."""
    from kpdetect import models

    named = {name: np.asarray(tensor) for name, tensor in models.split_joined(outputs).items()}
    parts = [named[OUTPUT_NAME], *(named[name][..., None] for name in named if name == UNCERTAINTY_NAME)]
    return np.concatenate(parts, axis=-1)


def probe_crops(count: int, input_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Pictures to compare runtimes on: black, white, noise, and random waves and edges of every size.

    Returns:
        (count, H, W, C) uint8, always the same for the same arguments.
    """
    height, width, channels = input_shape
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    frequency = random.normal(0, 4, (count, channels, 5, 2))
    phase = random.uniform(0, 2 * np.pi, (count, channels, 5, 1, 1))
    angle = 2 * np.pi * (frequency[..., :1, None] * x + frequency[..., 1:, None] * y) + phase
    waves = np.cos(angle).mean(axis=2) + 0.3 * np.sign(np.cos(angle[:, :, 0]))
    crops = np.moveaxis(127.5 + 127.5 * waves, 1, -1)
    crops[:3] = np.array([0, 255, 0])[:count, None, None, None]
    crops[2:3] = random.uniform(0, 255, crops[2:3].shape)
    return np.asarray(np.clip(crops, 0, 255), np.uint8)


def greatest_difference(
    model: runtime.Runtime, crops: npt.NDArray[np.uint8], expected_relative: npt.NDArray[np.float32]
) -> float:
    """How far a file's outputs lie from Keras', at worst, in pixels of the crop; several batch sizes are tried.

    Args:
        model: The file in its own runtime.
        crops: (N, H, W, C).
        expected_relative: Keras' points of them, (N, K, 2), or with the uncertainty as a third number.
    """
    height, width = model.spec.crop.size_hw
    units = (width, height, max(width, height))[: expected_relative.shape[-1]]
    worst = 0.0
    for size in PROBE_BATCHES:
        difference = np.abs(all_outputs(_named(model.mark(crops[:size]))) - expected_relative[:size]) * units
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
    return worst


def _named(marks: runtime.Marks) -> dict[str, npt.NDArray[np.float32]]:
    named = {OUTPUT_NAME: marks.keypoints}
    return named if marks.uncertainty is None else {**named, UNCERTAINTY_NAME: marks.uncertainty}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``export``."""
    options = cli.parse_options(ExportOptions, argv, "export", "python -m kpdetect.export runs/compact --out exported")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    exported = export_model(
        options.model, options.out, options.formats, options.tolerance_px, options.overwrite, options.quantize
    )
    for name, record in exported.files.items():
        if record["max_difference_px"] is not None:
            shown = Path(options.out) / name
            difference = record["max_difference_px"]
            print(f"{shown}: {record['bytes']} bytes, greatest difference from Keras {difference:.2g} px")
    return 0


def _check_formats(formats: Sequence[str], quantize: Sequence[str]) -> None:
    for name in formats:
        if name not in WRITERS:
            raise unknown_name("format", name, WRITERS)
    if not formats:
        raise KpdetectError(f"formats: expected one or more of {', '.join(WRITERS)}, received none")
    known = ["none", *QUANTIZED_TFLITE]
    for name in quantize:
        if name not in known:
            raise unknown_name("quantization", name, known)
    if "tflite" in formats and not quantize:
        raise KpdetectError(f"quantize: expected one or more of {', '.join(known)}, received none")


def _check_out(source: Path, out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise KpdetectError(f"{out}: is a file; choose a folder for --out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise KpdetectError(f"{out}: holds files already; choose another --out, or give --overwrite to replace it")
    if not (out / SPEC_FILE).is_file():
        raise KpdetectError(f"{out}: holds no bundle, so --overwrite does not remove it; choose another --out")
    if source.resolve() == out.resolve() or out.resolve() in source.resolve().parents:
        raise KpdetectError(f"{out}: holds the model to export; choose another --out")


def _check_packages(formats: Sequence[str]) -> None:
    needed = ["tensorflow", "keras", *(["tf2onnx", "onnx", "onnxruntime"] if "onnx" in formats else [])]
    with cli.quietly("starting TensorFlow"):
        for package in needed:
            try:
                importlib.import_module(package)
            except ModuleNotFoundError as error:
                raise MissingExtra(error.name or package, "train", "kpdetect export") from error


def _write_all(
    model: "keras.Model", spec: Spec, folder: Path, formats: Sequence[str], quantize: Sequence[str]
) -> Iterator[tuple[Path, bool]]:
    """Writes the files one after the other, in the order in which a bundle lists them; tells which are exact."""
    name = (
        re.sub(r"[^\w.-]+", "_", str(spec.extra.get("name") or spec.recipe or spec.architecture)).strip(".") or "model"
    )
    for format_name, write in WRITERS.items():
        if format_name not in formats:
            continue
        if format_name != "tflite" or "none" in quantize:
            path = folder / (SAVED_MODEL if format_name == SAVED_MODEL else f"{name}.{format_name}")
            yield _written(write, model, spec, path), True
        for quantization in QUANTIZED_TFLITE if format_name == "tflite" else ():
            if quantization in quantize:
                path = folder / f"{name}_{quantization}.tflite"
                yield _written(QUANTIZED_TFLITE[quantization], model, spec, path), False


def _written(write: Writer, model: "keras.Model", spec: Spec, path: Path) -> Path:
    with cli.quietly(f"writing {path.name}"):
        write(model, spec, path)
    return path


def _check_difference(name: str, difference_px: float, tolerance_px: float) -> None:
    if not difference_px <= tolerance_px:
        raise KpdetectError(
            f"{name}: differs from Keras by {difference_px:.3g} pixels of the crop, expected at most "
            f"{tolerance_px:g} (--tolerance-px); nothing was written"
        )


def _records(path: Path, folder: Path, difference_px: float) -> dict[str, FileRecord]:
    """Records of a file, or of all files of a SavedModel, of which the graph's carries the difference."""
    if path.is_file():
        return {path.name: bundle.file_record(path, difference_px)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): bundle.file_record(
            file, difference_px if file.name == "saved_model.pb" else None
        )
        for file in files
    }


@contextmanager
def _exact_float32() -> Iterator[None]:
    """On a GPU, TensorFlow rounds products to 10 bits by default; a comparison to 0.01 pixels needs all 23."""
    import tensorflow as tf

    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)


if __name__ == "__main__":
    sys.exit(cli.run(main))
