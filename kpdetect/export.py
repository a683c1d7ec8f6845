"""Owns the way out: a bundle as SavedModel, TFLite, ONNX or ``.keras`` file, each compared with Keras before it counts.

The command prints one line per file: its path, its size, and how far it lies from Keras. With ``--inspect FILE`` it
prints what a file says of itself instead.
"""

import dataclasses
import importlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.atomic_write import atomic_folder
from kpdetect.core.errors import KpdetectError, MissingExtra, unknown_name
from kpdetect.core.keras_backend import require_tensorflow
from kpdetect.core.options import option, parse_options, quietly, run_command
from kpdetect.exporters import FORMATS, QUANTIZATIONS, SAVED_MODEL, CalibrationSet, Kind, Source, web_page
from kpdetect.exporters.calibration_set import calibration_faces
from kpdetect.exporters.parity import NUM_PROBES, Difference, KerasReference, check_difference, probe_crops
from kpdetect.modelfile import bundle
from kpdetect.modelfile.inspection import description, draw_points
from kpdetect.modelfile.registry import PathLike, resolve
from kpdetect.modelfile.spec import SPEC_FILE, FileRecord, Spec

DEFAULT_FORMATS = (SAVED_MODEL, "tflite", "onnx")
FOLDERS = {SAVED_MODEL: "saved_model.pb", web_page.WEB: web_page.MODEL_FILE}
"""Formats that are a folder of the same name, and the file in it that bears the difference from Keras."""


@dataclass(frozen=True)
class ExportOptions:
    """Writes a model as SavedModel, TFLite and ONNX; each file is run in its own runtime and compared with Keras."""

    model: str = option(
        dataclasses.MISSING, "bundle folder with its weights, or the name of a packaged model", positional=True
    )
    out: str = option(dataclasses.MISSING, "folder to write; it becomes a bundle too", metavar="DIR")
    formats: tuple[str, ...] = option(
        DEFAULT_FORMATS, "comma-separated: saved_model, tflite, onnx, keras, web (a page for browsers)", metavar="LIST"
    )
    quantize: tuple[str, ...] = option(
        ("none",),
        "how numbers are kept, a file each: none (float32); fp16 (TFLite and ONNX: half the bytes); int8 (TFLite: a "
        "quarter, and faster; takes uint8 pixels and needs --representative); dynamic (TFLite: int8 weights alone); "
        "the folder runs the first",
        metavar="LIST",
    )
    representative: str | None = option(
        None,
        "faces it was trained on, for int8 to measure its ranges and rounding on; held-out ones are left out",
        metavar="SPEC",
    )
    # Rounding alone gives 1e-5 to 1e-3 px; a real fault, such as another padding, gives whole pixels.
    tolerance_px: float = option(
        0.01,
        "greatest difference from Keras that passes, in pixels of the crop; fp16, int8 and dynamic have bounds of "
        "their own, unless this is wider",
    )
    overwrite: bool = option(False, "replace the bundle that --out holds; files of others in it stay")


@dataclass(frozen=True)
class InspectOptions:
    """Prints what a model file says of itself: points, crop, input and outputs, errors, tensors and ops."""

    inspect: str = option(dataclasses.MISSING, "bundle, SavedModel, .tflite, .onnx or .keras", metavar="FILE")
    draw: str | None = option(None, "also draw its numbered points, where it sees them itself", metavar="FILE")


@dataclass(frozen=True)
class Quantization:
    """How numbers are kept.

    Attributes:
        ways: A file each: ``none`` as ``NAME.tflite``, ``fp16`` as ``NAME_fp16.tflite``, ``int8``, ``dynamic``. A
            format that knows none of these is written in float32. The first one's TFLite is what the bundle runs.
        representative: Labelled faces for ``int8``, as `kpdetect.exporters.calibration_set` takes them.
    """

    ways: tuple[str, ...] = ("none",)
    representative: str | None = None

    def check(self) -> None:
        """Makes sure that all is there that the ways need.

        Raises:
            KpdetectError: There is no way, an unknown one, or no faces for ``int8``.
        """
        for name in self.ways:
            if name not in QUANTIZATIONS:
                raise unknown_name("quantization", name, QUANTIZATIONS)
        if not self.ways:
            raise KpdetectError(f"quantize: expected one or more of {', '.join(QUANTIZATIONS)}, received none")
        if "int8" in self.ways and self.representative is None:
            raise KpdetectError(
                "--quantize int8: takes the ranges of its numbers from faces that the model was trained on; name them "
                "with --representative, such as --representative youtube-faces:DIR"
            )

    def faces(self, spec: Spec) -> CalibrationSet | None:
        """The representative set; None where no file needs one."""
        if self.representative is None or "int8" not in self.ways:
            return None
        return calibration_faces(self.representative, spec)


@dataclass(frozen=True)
class _File:
    """A file to write: its format and how its numbers are kept."""

    format: str
    quantization: str

    @property
    def kind(self) -> Kind:
        """What writes it."""
        return FORMATS[self.format][self.quantization]

    def name(self, spec: Spec) -> str:
        """How it is called in the bundle."""
        if self.format in FOLDERS:
            return self.format
        called = str(spec.extra.get("name") or spec.recipe or spec.architecture)
        stem = re.sub(r"[^\w.-]+", "_", called).strip(".") or "model"
        return f"{stem}{'' if self.quantization == 'none' else f'_{self.quantization}'}.{self.format}"


def export_model(
    bundle_folder: PathLike,
    out: PathLike,
    formats: Sequence[str] = DEFAULT_FORMATS,
    tolerance_px: float = 0.01,
    overwrite: bool = False,
    quantization: Quantization = Quantization(),
) -> Spec:
    """Writes a bundle with its model in other formats, all of it or nothing.

    In every file the input is ``image``, (B, H, W, C) of raw pixels 0-255, float32 (``int8``: uint8), and the output
    ``keypoints``, (B, K, 2) float32 relative to the crop; B is free, but 1 in ``web``; the spec is inside.

    Args:
        bundle_folder: The bundle, with weights.
        out: The folder to write: ``model.weights.h5``, ``spec.json``, ``saved_model/``, ``NAME.tflite``, ``NAME.onnx``.
        formats: Any of ``saved_model``, ``tflite``, ``onnx``, ``keras``, ``web``: the static folder ``web/`` of a page
            for browsers (see `kpdetect.exporters.web_page`), which needs Node.js the first time.
        tolerance_px: The greatest difference from Keras that passes, in pixels of the crop; quantised files have bounds
            of their own (`kpdetect.exporters.FORMATS`), unless this is wider.
        overwrite: Replace the bundle that `out` holds.
        quantization: How numbers are kept.

    Returns:
        The spec as written; its ``files`` hold each file's ``max_difference_px`` and ``mean_difference_px``.

    Raises:
        KpdetectError: Keras does not run on TensorFlow, a format is unknown, `out` holds something, the representative
            set does not suit, or a file differs too much; nothing is written then.
        MissingExtra: TensorFlow or a converter is not installed.
    """
    files = _chosen_files(formats, quantization)
    bundle.checked_weights(bundle_folder)  # a wrong path is reported before TensorFlow takes seconds to start
    _check_out(resolve(bundle_folder), Path(out), overwrite)
    kept = _files_of_others(Path(out))
    with quietly("starting TensorFlow"):
        require_tensorflow("export", "kpdetect export")
    _check_packages(files)
    with quietly(f"reading {bundle_folder}"):
        model, spec = bundle.load_bundle(bundle_folder)
    faces = quantization.faces(spec)
    with atomic_folder(out, overwrite=Path(out).exists()) as folder:
        written = bundle.write_bundle(model, spec, folder)
        records = dict(written.files)
        for path, difference in _write_all(Source(model, written, faces), files, folder, tolerance_px):
            records |= _records(path, folder, difference)
        exported = dataclasses.replace(written, files=records)
        bundle.write_spec(exported, folder)
        for file in kept:
            if not (folder / file).exists():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(out) / file, folder / file)
    return exported


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``export``; with ``--inspect`` it looks at a file instead."""
    words = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] == "--inspect" for word in words):
        return _inspect(words)
    example = (
        "python -m kpdetect.export runs/compact --out exported\n"
        "  python -m kpdetect.export runs/compact --out exported --quantize none,int8 --representative ibug:DIR\n"
        "  python -m kpdetect.export --inspect exported/compact.tflite --draw points.png"
    )
    options = parse_options(ExportOptions, argv, "export", example)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    exported = export_model(
        options.model,
        options.out,
        options.formats,
        options.tolerance_px,
        options.overwrite,
        Quantization(options.quantize, options.representative),
    )
    for name, record in exported.files.items():
        greatest, mean = record["max_difference_px"], record.get("mean_difference_px")
        if greatest is not None:
            shown = Path(options.out) / name
            print(
                f"{shown}: {record['bytes']} bytes, greatest difference from Keras {greatest:.2g} px, mean {mean:.2g}"
            )
    if web_page.WEB in options.formats:
        print(f"open the page: python -m http.server --directory {Path(options.out) / web_page.WEB}")
    return 0


def _inspect(words: Sequence[str]) -> int:
    example = "python -m kpdetect.export --inspect exported/compact.tflite --draw points.png"
    options = parse_options(InspectOptions, words, "export", example)
    print(description(options.inspect))
    if options.draw is not None:
        draw_points(options.inspect, options.draw)
        print(options.draw)
    return 0


def _chosen_files(formats: Sequence[str], quantization: Quantization) -> list[_File]:
    """The files to write, in the order in which a bundle lists them: of its TFLite files it runs the first."""
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
            files += [_File(name, way) for way in ways or ["none"]]
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
        raise KpdetectError(f"{out}: holds files already; choose another --out, or give --overwrite to replace it")
    if not (out / SPEC_FILE).is_file():
        raise KpdetectError(f"{out}: holds no bundle, so --overwrite does not remove it; choose another --out")
    if source.resolve() == out.resolve() or out.resolve() in source.resolve().parents:
        raise KpdetectError(f"{out}: holds the model to export; choose another --out")


def _files_of_others(out: Path) -> list[Path]:
    """What a folder holds besides its bundle, relative to it."""
    if not (out / SPEC_FILE).is_file():
        return []
    own = {Path(name) for name in (SPEC_FILE, *bundle.read_spec(out).files)}
    return sorted({file.relative_to(out) for file in out.rglob("*") if file.is_file()} - own)


def _check_packages(files: Sequence[_File]) -> None:
    if any(file.format == web_page.WEB for file in files):
        with quietly("building the page for browsers"):
            web_page.built_page()
    needed = ["tensorflow", "keras"]
    needed += ["tf2onnx", "onnx", "onnxruntime"] if any(file.format == "onnx" for file in files) else []
    needed += ["ai_edge_quantizer"] if any(file.quantization in ("int8", "dynamic") for file in files) else []
    with quietly("starting TensorFlow"):
        for package in needed:
            try:
                importlib.import_module(package)
            except ModuleNotFoundError as error:
                raise MissingExtra(error.name or package, "train", "kpdetect export") from error


def _write_all(
    source: Source, files: Sequence[_File], folder: Path, tolerance_px: float
) -> Iterator[tuple[Path, Difference]]:
    """Writes the files one after the other, each compared with Keras."""
    probes = KerasReference.of(probe_crops(NUM_PROBES, source.spec.input_shape), source)
    faces = None if source.calibration_set is None else KerasReference.of(source.calibration_set.crops, source)
    for file in files:
        path, kind = folder / file.name(source.spec), file.kind
        with quietly(f"writing {path.name}"):
            kind.write(source, path)
        with quietly(f"comparing {path.name} with Keras"):
            difference = (faces if kind.on_faces and faces else probes).compare(path)
        check_difference(path.name, difference, kind, tolerance_px)
        yield path, difference


def _records(path: Path, folder: Path, difference: Difference) -> dict[str, FileRecord]:
    """Records of a file, or of all files of a folder, of which the model's carries the difference."""
    differences = difference.greatest_px, difference.mean_px
    if path.is_file():
        return {path.name: bundle.file_record(path, differences)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): bundle.file_record(
            file, differences if file.name == FOLDERS[path.name] else None
        )
        for file in files
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
