"""Bundles (a folder of weights and ``spec.json``), and reading and writing the spec of every kind of model file."""

import dataclasses
import hashlib
import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kpdetect import __version__
from kpdetect.core.atomic_write import atomic_file, atomic_folder
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.quiet import start_tensorflow_quietly
from kpdetect.modelfile.disk import reserve_space
from kpdetect.modelfile.onnx_check import onnx_metadata
from kpdetect.modelfile.registry import SHIPPED_MODELS, PathLike, resolve
from kpdetect.modelfile.spec import (
    MAX_SPEC_BYTES,
    OUTPUT_NAME,
    SCORE_NAME,
    SPEC_FILE,
    UNCERTAINTY_NAME,
    VISIBILITY_NAME,
    FileRecord,
    Spec,  # exported as bundle.Spec
)

if TYPE_CHECKING:
    import keras

WEIGHTS_FILE = "model.weights.h5"
HALF_WEIGHTS_FILE = "model.weights_fp16.npz"
"""The same weights in half the bytes, which `load_bundle` reads in a bundle without `WEIGHTS_FILE`."""
WORTH_HALVING = 1 << 14
"""Weight arrays of at least this many values are stored as float16 in `HALF_WEIGHTS_FILE`, smaller ones as float32.

The packaged model's predictions then change by at most 0.009 pixels of the crop (151 test faces of 300-W), against
0.041 with float16 throughout; the small arrays are 5 % of the bytes.
"""
ONNX_KEY = "kpdetect_spec"
MAX_DEPTH = 32  # of groups in an HDF5 file
_DEFERRED = "uninitialized_variables"  # where Keras lists variables whose arrays are allocated later
HDF5_BYTES = 1 << 20  # room for the structure of an HDF5 file


def write_bundle(model: "keras.Model", spec: Spec, folder: PathLike) -> Spec:
    """Writes weights and ``spec.json`` into an existing folder; `save_bundle` creates one atomically.

    Returns:
        The spec as written: `spec` with this version of kpdetect and the weights as its only file.

    Raises:
        KpdetectError: The model's shapes differ from the spec's, or the disk is full.
    """
    import keras

    from kpdetect import models

    outputs = models.named_outputs(model)
    expected = ((None, *spec.input_shape), (None, spec.num_keypoints, 2))
    received = (model.input_shape, tuple(outputs[OUTPUT_NAME].shape))
    if received != expected:
        raise KpdetectError(
            f"model: expected input and output of shapes {expected[0]} and {expected[1]} (spec), "
            f"received {received[0]} and {received[1]}"
        )
    weights = Path(folder) / WEIGHTS_FILE
    size = sum(4 * math.prod(variable.shape) for variable in model.variables)
    reserve_space(Path(folder), size + HDF5_BYTES, WEIGHTS_FILE)

    # Saving a compiled model would include its optimizer's state, which is twice the size of the weights.
    keras.Model(model.inputs, model.outputs, name=model.name).save_weights(weights)
    written = dataclasses.replace(
        spec,
        files={WEIGHTS_FILE: file_record(weights)},
        kpdetect_version=__version__,
        uncertainty=UNCERTAINTY_NAME in outputs,
        score=SCORE_NAME in outputs,
        visibility=VISIBILITY_NAME in outputs,
    )
    write_spec(written, folder)
    return written


def save_bundle(model: "keras.Model", spec: Spec, folder: PathLike, overwrite: bool = False) -> Spec:
    """Writes a bundle atomically: ``model.weights.h5`` and ``spec.json``.

    Args:
        model: The model that `kpdetect.models.build` built for `spec`.
        spec: Its description; ``files``, ``kpdetect_version`` and the outputs are set here.
        folder: The folder to create.
        overwrite: Replace an existing folder with everything in it.

    Returns:
        The spec as written.

    Raises:
        KpdetectError: The folder exists, or the model does not match the spec.

    Example:
        ```python
        model = models.build("compact", 68, (160, 160, 1))
        save_bundle(model, Spec(IBUG68, "compact", {}, CropRule((160, 160), 1.2), channels=1), "runs/mine")
        ```
    """
    with atomic_folder(folder, overwrite) as temporary:
        return write_bundle(model, spec, temporary)


def add_half_weights(folder: PathLike) -> Spec:
    """Adds `HALF_WEIGHTS_FILE` to a bundle and its record to the bundle's ``spec.json``.

    Returns:
        The spec as written.

    Raises:
        KpdetectError: As `load_bundle`.
    """
    from kpdetect import models

    model, spec = load_bundle(folder)
    arrays: dict[str, Any] = {
        f"{layer}/{number}": array.astype(np.float16) if array.size >= WORTH_HALVING else array
        for layer, weights in models.weights_of(model).items()
        for number, array in enumerate(weights)
    }
    target = Path(folder) / HALF_WEIGHTS_FILE
    with atomic_file(target) as temporary:
        np.savez(temporary, **arrays)
    written = dataclasses.replace(spec, files={**spec.files, HALF_WEIGHTS_FILE: file_record(target)})
    with atomic_file(Path(folder) / SPEC_FILE) as temporary:
        temporary.write_text(written.to_json(), encoding="utf-8")
    return written


def load_bundle(folder: PathLike) -> tuple["keras.Model", Spec]:
    """Loads a bundle's model. The architecture is built from code, by its name; only weights are read from the file.

    Args:
        folder: A bundle folder, or the name of a packaged model such as ``compact-160-v2``.

    Returns:
        The Keras model and its spec.

    Raises:
        KpdetectError: It is no bundle, or the weights are missing, differ from the spec's sha256 or do not fit.
        MissingExtra: Keras is not installed.

    Example:
        ```python
        model, spec = load_bundle("compact-160-v2")
        ```
    """
    spec, weights = checked_weights(folder)
    start_tensorflow_quietly()
    try:
        from kpdetect import models
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "tensorflow", "train", f"{folder}: loading weights") from error
    _check_parameters(spec, weights)
    model = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
    if weights.name == HALF_WEIGHTS_FILE:
        _load_half_weights(model, weights, spec.architecture)
    else:
        _load_weights(model, weights, spec.architecture)
    return model, spec


def checked_weights(folder: PathLike) -> tuple[Spec, Path]:
    """Returns a bundle's spec and the path of its weights, after a check of their sha256. Needs no Keras.

    The weights are `WEIGHTS_FILE`, or `HALF_WEIGHTS_FILE` in a folder that has only these.

    Args:
        folder: A bundle folder, or the name of a packaged model.

    Raises:
        KpdetectError: It is no bundle, or the weights are missing or differ from the spec's sha256.
    """
    if model_kind(folder) != "bundle":
        raise KpdetectError(f"{folder}: expected a bundle, a folder with {SPEC_FILE} and {WEIGHTS_FILE}")
    place = resolve(folder)
    spec = read_spec(place)
    only_half = not (place / WEIGHTS_FILE).is_file() and (place / HALF_WEIGHTS_FILE).is_file()
    return spec, checked_file(place, spec, HALF_WEIGHTS_FILE if only_half else WEIGHTS_FILE)


def read_spec(path: PathLike) -> Spec:
    """Reads the spec of any model file.

    Args:
        path: A bundle or SavedModel folder, a ``.tflite``, ``.onnx`` or ``.keras`` file, or the name of a packaged
            model.

    Raises:
        KpdetectError: There is no such file, it is no model, or it contains no spec.

    >>> read_spec("compact-160-v2").num_keypoints
    68
    """
    text = _SPEC_READERS[model_kind(path)](resolve(path))
    if text is None:
        raise KpdetectError(
            f"{path}: contains no {SPEC_FILE}, so its points and its crop rule are unknown; "
            "export the model with: python -m kpdetect.export BUNDLE --out DIR"
        )
    return Spec.from_json(text, str(path))


def write_spec(spec: Spec, folder: PathLike) -> None:
    """Writes ``spec.json`` into a folder."""
    (Path(folder) / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")


def embed_in_zip(spec: Spec, path: PathLike) -> None:
    """Appends ``spec.json`` to a ``.keras`` zip, or as an associated file to the flatbuffer of a ``.tflite``."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(SPEC_FILE, spec.to_json())


def embed_in_saved_model(spec: Spec, folder: PathLike) -> None:
    """Writes ``assets.extra/spec.json``, which TensorFlow ignores."""
    extra = Path(folder) / "assets.extra"
    extra.mkdir(exist_ok=True)
    write_spec(spec, extra)


def model_kind(path: PathLike) -> str:
    """Returns the kind of a model: ``bundle``, ``saved_model``, ``tflite``, ``keras`` or ``onnx``.

    Files are recognised by their first bytes; ONNX, which has no signature, by its suffix.

    Raises:
        KpdetectError: There is no such path, or it is something else.

    >>> model_kind("compact-160-v2")
    'bundle'
    """
    target = resolve(path)
    if target.is_dir():
        for kind, member in (("saved_model", "saved_model.pb"), ("bundle", SPEC_FILE)):
            if (target / member).is_file():
                return kind
        raise KpdetectError(f"{path}: no model: expected a folder with {SPEC_FILE} or saved_model.pb")
    if not target.is_file():
        raise KpdetectError(f"{path}: no model: expected a file or a folder, received a device, pipe or socket")
    found = _kind_by_content(target)
    if found is None:
        raise KpdetectError(
            f"{path}: no model: expected a bundle or SavedModel folder or a .tflite, .onnx or .keras file, "
            f"received {_first_bytes(target)}"
        )
    return found


def file_record(path: PathLike, differences_px: tuple[float, float] | None = None) -> FileRecord:
    """Returns a file's sha256 and size, and its greatest and mean difference from Keras if it was compared."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    greatest, mean = differences_px or (None, None)
    return {
        "sha256": digest.hexdigest(),
        "bytes": Path(path).stat().st_size,
        "max_difference_px": greatest,
        "mean_difference_px": mean,
    }


def checked_file(folder: PathLike, spec: Spec, name: str) -> Path:
    """Returns the path of a bundle's file after a check of its sha256.

    Raises:
        KpdetectError: The spec or the folder has no such file, or its sha256 differs.
    """
    path = Path(folder) / name
    if name not in spec.files or not path.is_file():
        raise KpdetectError(f"{folder}: the bundle has no file {name}")
    expected, received = spec.files[name]["sha256"], file_record(path)["sha256"]
    if received != expected:
        raise KpdetectError(
            f"{path}: damaged or replaced: expected sha256 {expected[:12]}… ({SPEC_FILE}), "
            f"received {received[:12]}…; copy the bundle again or export the model again"
        )
    return path


def shipped_model() -> Path:
    """Returns the folder of the default model, which is packaged with kpdetect.

    Raises:
        KpdetectError: Its files are neither in the installed package nor in a checkout.
    """
    return SHIPPED_MODELS[0].path


def _check_parameters(spec: Spec, weights: Path) -> None:
    """Checks that the architecture has no more parameters than its file can hold, before memory is allocated."""
    import keras
    from keras.src.backend.common import global_state

    from kpdetect import models

    before = list(global_state.get_global_attribute(_DEFERRED) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):  # builds the network without its arrays
            model = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
            count = sum(math.prod(variable.shape) for variable in model.variables)
    except KpdetectError:
        raise
    except Exception as error:  # options of wrong types fail in many ways
        reason = " ".join(str(error).split())[:300]
        raise KpdetectError(
            f"{weights.parent}: cannot build architecture '{spec.architecture}' with options "
            f"{dict(spec.architecture_options)}: {reason}"
        ) from error
    finally:  # Keras would allocate the arrays when another scope ends, and has no public way to prevent it
        global_state.set_global_attribute(_DEFERRED, before)
    if 2 * count > weights.stat().st_size:
        raise KpdetectError(
            f"{weights}: expected {count} weights for architecture '{spec.architecture}' with options "
            f"{dict(spec.architecture_options)}, received a file of {weights.stat().st_size} bytes"
        )


def _check_hdf5(weights: Path) -> None:
    """Checks that an HDF5 file refers to no other file, and that its arrays are no larger than it.

    Links and external or virtual storage would read other files of the machine as weights (CVE-2026-1669).
    """
    import h5py

    size = weights.stat().st_size

    def check(group: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise KpdetectError(f"{weights}: groups nested more than {MAX_DEPTH} deep")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise KpdetectError(f"{weights}: {group.name}/{name}: a link; expected weights in the file itself")
            part = group[name]
            if isinstance(part, h5py.Group):
                check(part, depth + 1)
            elif part.external or part.is_virtual or part.nbytes > size:
                raise KpdetectError(f"{weights}: {part.name}: expected weights in the file itself")

    with h5py.File(weights, "r") as file:
        check(file, 0)


def _load_weights(model: "keras.Model", weights: Path, architecture: str) -> None:
    from keras import ops

    floats = [variable for variable in model.variables if "float" in str(variable.dtype)]
    for variable in floats:
        # Keras keeps the initial weights of layers that the file lacks. NaN makes them detectable.
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    try:
        with warnings.catch_warnings():
            # "Skipping nested container": another Keras version's layout, harmless if every weight is found.
            warnings.filterwarnings("ignore", message="Skipping nested container", category=UserWarning)
            _check_hdf5(weights)
            model.load_weights(weights)
    except KpdetectError:
        raise
    except Exception as error:  # h5py and Keras raise many kinds on a damaged file
        reason = " ".join(str(error).split())[:300]  # Keras' message may contain whole variables
        raise KpdetectError(f"{weights}: no weights for architecture '{architecture}': {reason}") from error
    empty = [variable.path for variable in floats if not bool(ops.all(ops.isfinite(variable)))]
    if empty:
        raise KpdetectError(
            f"{weights}: expected finite weights for every layer of architecture '{architecture}', "
            f"received missing or non-finite ones for {', '.join(empty[:3])}{' …' if len(empty) > 3 else ''}"
        )


def _load_half_weights(model: "keras.Model", weights: Path, architecture: str) -> None:
    """Sets a model's weights from `HALF_WEIGHTS_FILE`: one float array per weight, called ``LAYER/NUMBER``."""
    from kpdetect import models

    try:
        with zipfile.ZipFile(weights) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 2 * weights.stat().st_size:
                raise KpdetectError(f"{weights}: expected arrays that are stored without compression")
        with np.load(weights, allow_pickle=False) as file:
            for layer, expected in models.weights_of(model).items():
                arrays = [file[f"{layer}/{number}"] for number in range(len(expected))]
                for number, (array, like) in enumerate(zip(arrays, expected, strict=True)):
                    if array.shape != like.shape or array.dtype not in (np.float16, np.float32):
                        raise KpdetectError(
                            f"{weights}: {layer}/{number}: expected floats of shape {like.shape} for architecture "
                            f"'{architecture}', received {array.dtype} of shape {array.shape}"
                        )
                    if not np.isfinite(array).all():
                        raise KpdetectError(f"{weights}: {layer}/{number}: expected finite weights")
                model.get_layer(layer).set_weights([array.astype(np.float32) for array in arrays])
    except KpdetectError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds on a damaged file
        raise KpdetectError(f"{weights}: no weights for architecture '{architecture}': {error}") from error


def _spec_beside(folder: Path) -> bytes | None:
    for place in (folder / "assets.extra" / SPEC_FILE, folder / SPEC_FILE):
        if place.is_file():
            with open(place, "rb") as file:
                return file.read(MAX_SPEC_BYTES + 1)
    return None


def _spec_in_zip(path: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if SPEC_FILE not in archive.namelist():
                return None
            with archive.open(SPEC_FILE) as file:  # a small entry may decompress to gigabytes
                return file.read(MAX_SPEC_BYTES + 1)
    except zipfile.BadZipFile as error:
        if path.suffix == ".keras":
            raise KpdetectError(f"{path}: damaged zip: {error}") from error
        return None  # a TFLite file without a zip
    except Exception as error:  # zipfile raises many kinds on a damaged file
        raise KpdetectError(f"{path}: damaged zip: {error}") from error


def _spec_in_onnx(path: Path) -> bytes | None:
    return onnx_metadata(path).get(ONNX_KEY)


_SPEC_READERS: dict[str, Callable[[Path], bytes | None]] = {
    "bundle": _spec_beside,
    "saved_model": _spec_beside,
    "tflite": _spec_in_zip,
    "keras": _spec_in_zip,
    "onnx": _spec_in_onnx,
}


def _first_bytes(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(8)
    return f"a file that begins with {start!r}" if start else "an empty file"


def _kind_by_content(path: Path) -> str | None:
    """TFLite and Keras files are recognised by their first bytes; ONNX has no signature, so its suffix counts."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start[4:8] == b"TFL3":
        return "tflite"
    if start[:4] == b"PK\x03\x04" and path.suffix.lower() != ".onnx":
        return "keras"
    return "onnx" if path.suffix.lower() == ".onnx" and start else None
