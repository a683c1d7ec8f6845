"""The command ``export``: writes a model as SavedModel, TFLite, ONNX, ``.keras`` or web page, each compared with Keras.

It prints one line per file: its path, its size and its difference from Keras. With ``--inspect FILE`` it prints the
description of a file instead.
"""

import dataclasses
import importlib
import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.atomic_write import atomic_folder
from kpdetect.core.errors import KpdetectError, MissingExtra, unknown_name
from kpdetect.core.keras_backend import require_tensorflow
from kpdetect.core.options import option, parse_options, quietly, run_command
from kpdetect.exporters import FORMATS, QUANTIZATIONS, SAVED_MODEL, CalibrationSet, Kind, Source, web_page
from kpdetect.exporters.calibration_set import calibration_faces
from kpdetect.exporters.golden import write_golden
from kpdetect.exporters.parity import (
    NUM_PROBES,
    Difference,
    DifferenceTooGreat,
    KerasReference,
    check_difference,
    probe_crops,
)
from kpdetect.modelfile import bundle, runtime
from kpdetect.modelfile.disk import FULL, disk_full, reserve_space
from kpdetect.modelfile.inspection import description, draw_points
from kpdetect.modelfile.registry import SHIPPED_MODELS, PathLike, resolve
from kpdetect.modelfile.spec import SPEC_FILE, FileRecord, Spec

DEFAULT_FORMATS = (SAVED_MODEL, "tflite", "onnx")
FOLDERS = {SAVED_MODEL: "saved_model.pb", web_page.WEB: web_page.MODEL_FILE}
"""Formats that are a folder of the same name, and the file in it whose record has the difference from Keras."""
GOLDEN = "golden"
RUN_FILE = "run.json"  # in every run folder
STATUS_REFUSED = 3
SPARE_BYTES = 4 << 20  # beside the weights: graphs, the spec and tables of names


@dataclass(frozen=True)
class ExportOptions:
    """Writes a model as SavedModel, TFLite and ONNX; each file is run in its own runtime and compared with Keras.

    A file that differs too much is not written: the others are, and the exit status is 3.
    """

    model: str = option(
        dataclasses.MISSING, "bundle folder with its weights, or the name of a packaged model", positional=True
    )
    out: str = option(dataclasses.MISSING, "folder to write; it becomes a bundle too", metavar="DIR")
    formats: tuple[str, ...] = option(
        DEFAULT_FORMATS, "comma-separated: saved_model, tflite, onnx, keras, web (a page for browsers)", metavar="LIST"
    )
    name: str | None = option(
        None, "name of the files (default: that of the run folder, or of the model)", metavar="NAME"
    )
    quantize: tuple[str, ...] = option(
        ("none",),
        "numeric formats, one file each: none (float32); fp16 (TFLite and ONNX: half the bytes); int8 (TFLite: a "
        "quarter, and faster; takes uint8 pixels and needs --representative); dynamic (TFLite: int8 weights only); "
        "the folder runs the first",
        metavar="LIST",
    )
    representative: str | None = option(
        None, "training faces on which int8 measures its ranges; held-out faces are left out", metavar="SPEC"
    )
    # Rounding alone gives 1e-5 to 1e-3 px; a real fault, such as another padding, gives whole pixels.
    tolerance_px: float = option(
        0.01,
        "greatest accepted difference from Keras, in pixels of the crop; fp16, int8 and dynamic have bounds of their "
        "own, unless this is greater",
    )
    batch: tuple[str, ...] = option(
        ("free",),
        "batch sizes of TFLite files, one file each: free (any number of crops), or a number such as 1 (all shapes are "
        "fixed, as phones and browsers need; NAME_b1.tflite)",
        metavar="LIST",
    )
    golden: bool = option(
        False,
        "also write golden/: drawn photographs with expected points, and numbers for the tests of an app's own code",
    )
    overwrite: bool = option(False, "replace the bundle in --out; other files in it are kept")


@dataclass(frozen=True)
class InspectOptions:
    """Prints the description of a model file: points, crop, inputs and outputs, errors, tensors and ops."""

    inspect: str = option(dataclasses.MISSING, "bundle, SavedModel, .tflite, .onnx or .keras", metavar="FILE")
    draw: str | None = option(None, "also draw the numbered points that it predicts for a typical face", metavar="FILE")


@dataclass(frozen=True)
class Quantization:
    """Numeric formats of an export.

    Attributes:
        ways: One file each: ``none`` as ``NAME.tflite``, ``fp16`` as ``NAME_fp16.tflite``, ``int8``, ``dynamic``.
            Formats without any of these are written in float32. The bundle runs the first one's TFLite.
        representative: Labelled faces for ``int8``, for `kpdetect.exporters.calibration_set`.
    """

    ways: tuple[str, ...] = ("none",)
    representative: str | None = None

    def check(self) -> None:
        """Checks the names, and that there is a calibration set for ``int8``.

        Raises:
            KpdetectError: There is no name, an unknown one, or no calibration set.
        """
        for name in self.ways:
            if name not in QUANTIZATIONS:
                raise unknown_name("quantization", name, QUANTIZATIONS)
        if not self.ways:
            raise KpdetectError(f"quantize: expected one or more of {', '.join(QUANTIZATIONS)}, received none")
        if "int8" in self.ways and self.representative is None:
            raise KpdetectError(
                "--quantize int8: needs training faces to measure the ranges of its numbers; name a data set, such as "
                "--representative youtube-faces:DIR"
            )

    def faces(self, spec: Spec) -> CalibrationSet | None:
        """Returns the calibration set; None if no file needs one."""
        if self.representative is None or "int8" not in self.ways:
            return None
        return calibration_faces(self.representative, spec)


class FilesRefused(KpdetectError):
    """Some files were not written, because they failed or differ too much from Keras; the others were.

    Attributes:
        spec: The spec of the bundle that was written.
        refused: Reasons by file name.
    """

    def __init__(self, spec: Spec, refused: Mapping[str, str]) -> None:
        self.spec, self.refused = spec, dict(refused)
        super().__init__("\n".join(f"not written: {reason}" for reason in refused.values()))


@dataclass(frozen=True)
class _File:
    """A file to write: its format and numeric format."""

    format: str
    quantization: str
    batch: int | None = None  # free

    @property
    def kind(self) -> Kind:
        """Its writer and tolerance."""
        return FORMATS[self.format][self.quantization]

    def name(self, stem: str) -> str:
        """Its name in the bundle."""
        if self.format in FOLDERS:
            return self.format
        quantization = "" if self.quantization == "none" else f"_{self.quantization}"
        return f"{stem}{quantization}{'' if self.batch is None else f'_b{self.batch}'}.{self.format}"


def export_model(
    bundle_folder: PathLike,
    out: PathLike,
    formats: Sequence[str] = DEFAULT_FORMATS,
    tolerance_px: float = 0.01,
    overwrite: bool = False,
    quantization: Quantization = Quantization(),
    name: str | None = None,
    batch: Sequence[int | None] = (None,),
    golden: bool = False,
) -> Spec:
    """Writes a bundle with its model in other formats, atomically.

    In every file the input is ``image``, (B, H, W, C) of raw pixels 0-255, float32 (``int8``: uint8), and the output is
    ``keypoints``, (B, K, 2) float32 relative to the crop. B is free, but 1 in ``web``, and as `batch` says in TFLite
    files. Every file contains the spec.

    Args:
        bundle_folder: A bundle with weights, or the name of a packaged model.
        out: The folder to write: ``model.weights.h5``, ``spec.json``, ``saved_model/``, ``NAME.tflite``, ``NAME.onnx``.
        formats: Any of ``saved_model``, ``tflite``, ``onnx``, ``keras`` and ``web``, the static folder ``web/`` of a
            page for browsers (see `kpdetect.exporters.web_page`).
        tolerance_px: Greatest accepted difference from Keras, in pixels of the crop; quantized files have bounds of
            their own (`kpdetect.exporters.FORMATS`), unless this is greater.
        overwrite: Replace the bundle in `out`.
        quantization: Numeric formats.
        name: Name of the files; default: that of the run folder, or of the model.
        batch: Batch sizes of TFLite files, one file each; None is free. Files of a fixed batch are called
            ``NAME_b1.tflite``: LiteRT's C API, which apps use, and LiteRT.js need fixed shapes.
        golden: Also write ``golden/``, see `kpdetect.exporters.golden`.

    Returns:
        The spec as written; its ``files`` contain each file's ``max_difference_px`` and ``mean_difference_px``.

    Raises:
        FilesRefused: Some files were refused; the others are written.
        KpdetectError: Keras does not run on TensorFlow, a format is unknown, `out` is not empty, the calibration set is
            not suitable, the disk is full, or no file is good; then nothing is written and `out` is unchanged.
        MissingExtra: TensorFlow or a converter is not installed.

    Example:
        ```python
        export_model("runs/mine", "exported", ("tflite", "onnx"))
        runtime.load("exported/mine.tflite")
        ```
    """
    files = _chosen_files(formats, quantization, batch)
    spec, _ = bundle.checked_weights(bundle_folder)  # a wrong path is reported before TensorFlow takes seconds to start
    stem = _file_stem(bundle_folder, spec, name)
    _check_out(resolve(bundle_folder), Path(out), overwrite)
    kept = _files_of_others(Path(out))
    with quietly("starting TensorFlow"):
        require_tensorflow("export", "kpdetect export")
        _import_packages(files)
    if any(file.format == web_page.WEB for file in files):
        web_page.built_page()  # an incomplete installation is reported now
    with quietly(f"reading {bundle_folder}"):
        model, spec = bundle.load_bundle(bundle_folder)
    faces = quantization.faces(spec)
    with atomic_folder(out, overwrite=Path(out).exists()) as folder:
        written = bundle.write_bundle(model, spec, folder)
        source = Source(model, written, faces)
        records, refused = _write_all(source, files, folder, stem, tolerance_px)
        if not records:
            raise KpdetectError(f"{next(iter(refused.values()))}; nothing was written")
        if golden:
            first = next(name for name in records if records[name]["max_difference_px"] is not None)
            records |= _write_golden(folder, Path(first).parts[0])
        exported = dataclasses.replace(written, files={**written.files, **records})
        bundle.write_spec(exported, folder)
        for file in kept:
            if not (folder / file).exists():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(out) / file, folder / file)
    if refused:
        raise FilesRefused(exported, refused)
    return exported


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``export``; with ``--inspect`` it describes a file instead."""
    words = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] == "--inspect" for word in words):
        return _inspect(words)
    example = (
        "python -m kpdetect.export runs/compact-112 --out exported\n"
        "  python -m kpdetect.export runs/compact-112 --out exported --quantize none,int8 --representative ibug:DIR\n"
        "  python -m kpdetect.export --inspect exported/compact.tflite --draw points.png"
    )
    options = parse_options(ExportOptions, argv, "export", example)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    refusal = None
    try:
        exported = export_model(
            options.model,
            options.out,
            options.formats,
            options.tolerance_px,
            options.overwrite,
            Quantization(options.quantize, options.representative),
            options.name,
            _batch_sizes(options.batch),
            options.golden,
        )
    except FilesRefused as error:
        exported, refusal = error.spec, error
    for name, record in exported.files.items():
        greatest, mean = record["max_difference_px"], record.get("mean_difference_px")
        if greatest is not None:
            print(
                f"{Path(options.out) / name}: {record['bytes']} bytes, difference from Keras: greatest {greatest:.2g} "
                f"px, mean {mean:.2g} px"
            )
    if any(Path(name).parts[0] == web_page.WEB for name in exported.files):
        print(f"open the page: kpdetect web --model {Path(options.out) / web_page.WEB} --open")
    if refusal is None:
        return 0
    for line in str(refusal).splitlines():
        print(f"kpdetect: {line}", file=sys.stderr)
    return STATUS_REFUSED


def _inspect(words: Sequence[str]) -> int:
    example = "python -m kpdetect.export --inspect exported/compact.tflite --draw points.png"
    options = parse_options(InspectOptions, words, "export", example)
    print(description(options.inspect))
    if options.draw is not None:
        draw_points(options.inspect, options.draw)
        print(options.draw)
    return 0


def _batch_sizes(words: Sequence[str]) -> list[int | None]:
    """Returns the values of ``--batch``; None for a free batch."""
    for word in words:
        if word != "free" and not re.fullmatch(r"[1-9]\d{0,3}", word):
            raise KpdetectError(f"--batch: expected 'free' or a number from 1 to 9999, received '{word}'")
    return [None if word == "free" else int(word) for word in words]


def _chosen_files(
    formats: Sequence[str], quantization: Quantization, batch: Sequence[int | None] = (None,)
) -> list[_File]:
    """Returns the files in the order in which the bundle lists them; it runs the first TFLite file."""
    if not batch:
        raise KpdetectError("batch: expected 'free' or a number, received none")
    fixed = [size for size in batch if size is not None]
    if fixed and "tflite" not in formats:
        raise KpdetectError(f"--batch {fixed[0]}: is for tflite, received --formats {','.join(formats)}")
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    if not formats:
        raise KpdetectError(f"formats: expected one or more of {', '.join(FORMATS)}, received none")
    quantization.check()
    files = []
    for name, kinds in FORMATS.items():
        if name in formats:
            ways = [way for way in dict.fromkeys(quantization.ways) if way in kinds]
            sizes = list(dict.fromkeys(batch)) if name == "tflite" else [None]
            files += [_File(name, way, size) for size in sizes for way in ways or ["none"]]
    for way in quantization.ways:
        if way != "none" and way not in [file.quantization for file in files]:
            able = [name for name, kinds in FORMATS.items() if way in kinds]
            raise KpdetectError(
                f"--quantize {way}: is for {' and '.join(able)}, received --formats {','.join(formats)}"
            )
    return files


def _check_out(source: Path, out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise KpdetectError(f"{out}: is a file; choose a folder for --out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise KpdetectError(f"{out}: is not empty; choose another --out, or replace its bundle with --overwrite")
    if not (out / SPEC_FILE).is_file():
        raise KpdetectError(f"{out}: contains no bundle, so --overwrite does not replace it; choose another --out")
    if source.resolve() == out.resolve() or out.resolve() in source.resolve().parents:
        raise KpdetectError(f"{out}: contains the model to export; choose another --out")


def _files_of_others(out: Path) -> list[Path]:
    """Returns the files in a folder that are not its bundle's, relative to it."""
    if not (out / SPEC_FILE).is_file():
        return []
    own = {Path(name) for name in (SPEC_FILE, *bundle.read_spec(out).files)}
    return sorted({file.relative_to(out) for file in out.rglob("*") if file.is_file()} - own)


def _import_packages(files: Sequence[_File]) -> None:
    needed = ["tensorflow", "keras"]
    needed += ["tf2onnx", "onnx", "onnxruntime"] if any(file.format == "onnx" for file in files) else []
    needed += ["ai_edge_quantizer"] if any(file.quantization in ("int8", "dynamic") for file in files) else []
    for package in needed:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingExtra(error.name or package, "train", "kpdetect export") from error


def _write_all(
    source: Source, files: Sequence[_File], folder: Path, stem: str, tolerance_px: float
) -> tuple[dict[str, FileRecord], dict[str, str]]:
    """Writes the files one after the other and compares each with Keras.

    Returns:
        The records of the good files, and the reasons why others were refused, by file name.

    Raises:
        KpdetectError: The disk is full.
    """
    probes = KerasReference.of(probe_crops(NUM_PROBES, source.spec.input_shape), source)
    faces = None if source.calibration_set is None else KerasReference.of(source.calibration_set.crops, source)
    records: dict[str, FileRecord] = {}
    refused: dict[str, str] = {}
    for file in files:
        path, kind = folder / file.name(stem), file.kind
        reserve_space(folder, _size_estimate(source), path.name)
        try:
            with quietly(f"writing {path.name}"):
                kind.write(dataclasses.replace(source, batch=file.batch), path)
            with quietly(f"comparing {path.name} with Keras"):
                difference = (faces if kind.on_faces and faces else probes).compare(path)
            check_difference(path.name, difference, kind, tolerance_px)
        except KpdetectError as error:
            refused[path.name] = f"{error}; {_advice(file)}" if isinstance(error, DifferenceTooGreat) else str(error)
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise disk_full(folder, path.name, error) from error
        else:
            records |= _records(path, folder, difference, file.batch)
    return records, refused


def _write_golden(folder: Path, file: str) -> dict[str, FileRecord]:
    """Writes golden numbers and the points of one of the files; returns their records."""
    write_golden(runtime.load(folder / file), folder / GOLDEN)
    written = sorted((folder / GOLDEN).iterdir())
    return {path.relative_to(folder).as_posix(): bundle.file_record(path) for path in written}


def _size_estimate(source: Source) -> int:
    """Returns the bytes that one file may take, while it is written."""
    weights = sum(4 * int(math.prod(variable.shape)) for variable in source.model.variables)
    return 2 * weights + SPARE_BYTES


def _advice(file: _File) -> str:
    """Returns what helps against a difference from Keras."""
    if file.kind.on_faces:
        return "use more faces with --representative, train longer, or accept it with a greater --tolerance-px"
    if file.quantization != "none":
        return "train longer, leave it out of --quantize, or accept it with a greater --tolerance-px"
    return "leave it out with --formats, or accept it with a greater --tolerance-px"


def _file_stem(bundle_folder: PathLike, spec: Spec, name: str | None) -> str:
    """Returns the name of the files: as given, or that of the run folder, or of the model."""
    if name is not None and not re.fullmatch(r"[\w.-]*[\w-][\w.-]*", name):
        raise KpdetectError(f"--name: expected letters, digits, '.', '_' and '-', received '{name}'")
    folder = resolve(bundle_folder).resolve()
    run = folder.name if (folder / RUN_FILE).is_file() else None
    packaged = next((shipped.alias for shipped in SHIPPED_MODELS if os.fspath(bundle_folder) == shipped.name), None)
    called = name or run or packaged or str(spec.extra.get("name") or spec.recipe or spec.architecture)
    return re.sub(r"[^\w.-]+", "_", called).strip(".") or "model"


def _records(path: Path, folder: Path, difference: Difference, batch: int | None) -> dict[str, FileRecord]:
    """Returns the records of a file, or of all files of a folder; that of the model has the difference from Keras."""
    differences = difference.greatest_px, difference.mean_px
    if path.is_file():
        record = bundle.file_record(path, differences)
        return {path.name: record if batch is None else {**record, "batch": batch}}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): bundle.file_record(
            file, differences if file.name == FOLDERS[path.name] else None
        )
        for file in files
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
