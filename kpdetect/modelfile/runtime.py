"""Runs a model file as one function, crops to points. TensorFlow is imported only for files that need it."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.fork import abandon, renew_after_fork
from kpdetect.core.litert import open_interpreter, open_on_gpu
from kpdetect.core.quiet import start_tensorflow_quietly
from kpdetect.modelfile.bundle import checked_file, checked_weights, load_bundle, model_kind, read_spec
from kpdetect.modelfile.devices import (
    Placement,
    Provider,
    check_no_providers,
    check_started,
    keras_scope,
    onnx_providers,
)
from kpdetect.modelfile.keras_models import load_keras_file
from kpdetect.modelfile.registry import PathLike, resolve
from kpdetect.modelfile.spec import INPUT_NAME, OUTPUT_NAME, Spec
from kpdetect.modelfile.trial import try_in_child

Crops = npt.NDArray[Any]  # uint8 or float32
Floats = npt.NDArray[np.float32]
Outputs = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Crops], Outputs]


class Prediction(NamedTuple):
    """A model's output for a batch of crops.

    Attributes:
        keypoints: (B, K, 2) float32 as (x, y) relative to the crop: ``(pixel + 0.5) / size``.
        uncertainty: (B, K) float32, the expected error of each point, relative to the crop; None for a model without
            it.
        score: (B,) float32, the probability that the crop contains a face; None for a model without it.
        visibility: (B, K) float32, the probability of each point that it is seen; None for a model without it.
    """

    keypoints: Floats
    uncertainty: Floats | None = None
    score: Floats | None = None
    visibility: Floats | None = None


@dataclass(frozen=True)
class Runtime:
    """A loaded model, called with a batch of crops.

    It may be called from several threads: each then has its own interpreter of TFLite, with its own memory; the other
    runtimes have locks of their own. It is pickled as the arguments of `load`.

    Attributes:
        spec: The model's description.
        path: The file that runs; for a bundle, the TFLite or the weights in it.
        bytes: The size of that file or folder.

    Example:
        ```python
        model = load("compact-160-v2")
        points = model(np.zeros((1, *model.spec.input_shape), np.uint8))  # (1, 68, 2)
        ```
    """

    spec: Spec
    path: Path
    bytes: int
    _run: Run = field(repr=False)
    _arguments: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if not self._arguments:
            raise TypeError("cannot pickle a Runtime that was not made by load()")
        return load, self._arguments

    def __call__(self, crops: npt.ArrayLike) -> Floats:
        """Returns the points of `predict` alone, (B, K, 2)."""
        return self.predict(crops).keypoints

    def predict(self, crops: npt.ArrayLike) -> Prediction:
        """Predicts a batch of crops.

        Args:
            crops: (B, H, W, C) of the spec's shape, uint8 or float32, raw pixels 0-255; B may be 0.

        Returns:
            The points, and the further outputs that the spec has.

        Raises:
            KpdetectError: The shape or the type differs.
        """
        batch = self._check(np.asarray(crops))
        outputs = self._run(batch) if len(batch) else {}
        found = {
            name: self._checked_output(outputs, name, (len(batch), *shape)) for name, shape in self.spec.outputs.items()
        }
        return Prediction(**found)

    def _checked_output(self, outputs: Outputs, name: str, shape: tuple[int, ...]) -> Floats:
        if not shape[0]:
            return np.zeros(shape, np.float32)
        if name not in outputs:
            raise KpdetectError(f"{self.path}: expected an output '{name}', received {', '.join(outputs)}")
        array = np.array(outputs[name], np.float32)  # a writable copy
        if array.shape != shape:
            raise KpdetectError(f"{self.path}: expected '{name}' of shape {shape}, received {array.shape}")
        return array

    def _check(self, crops: Crops) -> Crops:
        expected = self.spec.input_shape
        if crops.ndim != 4 or crops.shape[1:] != expected:
            height, width, channels = expected
            raise KpdetectError(
                f"{self.path}: expected crops of shape (batch, {height}, {width}, {channels}), received {crops.shape}"
            )
        if crops.dtype not in (np.uint8, np.float32):
            raise KpdetectError(
                f"{self.path}: expected crops of raw pixels 0-255 as uint8 or float32, received {crops.dtype}"
            )
        return crops


def load(
    path: PathLike,
    threads: int = 1,
    untrusted: bool = False,
    device: str | None = None,
    providers: Sequence[Provider] = (),
) -> Runtime:
    """Loads any model file that contains its ``spec.json``.

    Args:
        path: A bundle folder (its first TFLite runs, or else its weights in Keras), a ``.tflite``, ``.onnx`` or
            ``.keras`` file, a SavedModel folder, or the name of a packaged model such as ``compact-160-v2`` (see
            `kpdetect.modelfile.registry`). Bundles with a TFLite, ``.tflite`` and ``.onnx`` files need no TensorFlow.
        threads: Number of threads per batch in TFLite and ONNX; TensorFlow has its own setting.
        untrusted: The file is from a source that is not trusted. It is first loaded and run in a child process with
            limits of time and memory, and SavedModels, which may read and write files, are refused.
        device: ``cpu``, ``gpu``, or ``gpu:1`` for the second GPU. None is the processor for TFLite and ONNX, and the
            choice of TensorFlow for a ``.keras`` file, a SavedModel or weights. See `kpdetect.modelfile.devices`.
        providers: For ONNX, execution providers in order of preference, instead of a device: names, or pairs of a name
            and its options. A bundle then runs its first ONNX file.

    Raises:
        KpdetectError: The path is no model, is damaged, or contains no spec, or the device does not exist.
        MissingExtra: The file needs a package that is not installed.

    Example:
        ``load("compact")(crops)`` has the keypoints (B, 68, 2), relative to the crops.
    """
    placement = Placement(threads, device, tuple(providers))
    source = resolve(path)
    kind = model_kind(source)
    if untrusted:
        try_in_child(source, kind)
    spec = read_spec(source)
    if kind == "bundle":
        runtime = _load_bundle(source, spec, placement)
    else:
        runtime = Runtime(spec, source, size_of(source), _LOADERS[kind](source, placement, spec))
    return replace(runtime, _arguments=(source.absolute(), threads, untrusted, device, placement.providers))


def _load_bundle(folder: Path, spec: Spec, placement: Placement) -> Runtime:
    wanted = "onnx" if placement.providers else "tflite"
    for name in spec.files:
        if name.endswith(f".{wanted}") and (folder / name).is_file():
            file = checked_file(folder, spec, name)
            return Runtime(spec, file, size_of(file), _LOADERS[wanted](file, placement, spec))
    check_no_providers(placement, folder)
    start_tensorflow_quietly()
    with keras_scope(placement, folder):
        model, spec = load_bundle(folder)
    _, weights = checked_weights(folder)
    return Runtime(spec, weights, size_of(weights), _keras_function(model, placement, weights))


class _TFLite:
    """Interpreters that are resized to each batch: one for each thread that predicts at the same time."""

    def __init__(self, path: Path, threads: int, spec: Spec) -> None:
        self._path, self._threads = path, threads
        self._idle: list[_Interpreter] = []
        try:
            first = self._open()
            (image,) = first.interpreter.get_input_details()
            self._outputs = _outputs_of(first.interpreter)
        except KpdetectError:
            raise
        except (ValueError, RuntimeError) as error:
            raise KpdetectError(
                f"{path}: expected a TFLite model with one input and an output '{OUTPUT_NAME}': {_line(error)}"
            ) from error
        self._input = image["index"]
        self._dtype = image["dtype"]
        if self._dtype not in (np.uint8, np.float32):
            raise KpdetectError(f"{path}: expected an input of uint8 or float32, received {np.dtype(self._dtype)}")
        signature = image["shape_signature"]
        shape = image["shape"] if len(signature) == 0 else signature  # a fixed shape may have no signature
        _check_shape(path, INPUT_NAME, shape, spec.input_shape)
        details = {int(detail["index"]): detail for detail in first.interpreter.get_output_details()}
        for name, index in self._outputs.items():
            if name in spec.outputs and len(details[index]["shape_signature"]) > 0:
                _check_shape(path, name, details[index]["shape_signature"], spec.outputs[name])
        batch = int(shape[0])
        self.fixed_batch = batch if batch > 0 else None
        self._idle.append(first)
        renew_after_fork(self)

    def renew(self) -> None:
        """Drops the interpreters; calls open new ones."""
        for one in self._idle:
            abandon(one.interpreter)
        self._idle = []

    def _open(self) -> "_Interpreter":
        return _Interpreter(open_interpreter(self._path, self._threads))

    def __call__(self, crops: Crops) -> Outputs:
        batch = _as_type(crops, self._dtype)
        try:
            one = self._idle.pop()
        except IndexError:  # all are in use
            one = self._open()
        interpreter, idle = one.interpreter, self._idle  # a fork gives the child another list
        try:
            if len(batch) != one.batch:
                if self.fixed_batch is None:
                    interpreter.resize_tensor_input(self._input, batch.shape)
                interpreter.allocate_tensors()
                one.batch = len(batch)
            interpreter.set_tensor(self._input, batch)
            interpreter.invoke()
            return {name: np.asarray(interpreter.get_tensor(index)) for name, index in self._outputs.items()}
        except (ValueError, RuntimeError) as error:
            one.batch = 0  # allocate again for the next batch
            raise KpdetectError(f"{self._path}: cannot run a batch of {len(batch)}: {_line(error)}") from error
        finally:
            idle.append(one)


@dataclass
class _Interpreter:
    """An interpreter, and the size of the batch that it is allocated for; 0 before the first."""

    interpreter: Any
    batch: int = 0


def _outputs_of(interpreter: Any) -> dict[str, int]:
    """Returns the index of each output by the signature's names, or by tensor names; a single output needs no name."""
    details = interpreter.get_output_details()
    if len(details) == 1:
        return {OUTPUT_NAME: int(details[0]["index"])}
    found = {detail["name"]: int(detail["index"]) for detail in details}
    if len(interpreter.get_signature_list()) == 1:  # other converters use other tensor names
        signature = interpreter.get_signature_runner().get_output_details()
        found = {name: int(detail["index"]) for name, detail in signature.items()}
    if OUTPUT_NAME not in found:
        raise ValueError(f"its outputs are {', '.join(found) or 'none'}")
    return found


class _TFLiteOnGPU:
    """A TFLite file on a GPU, which runs one crop at a time: LiteRT compiles a model for one batch size."""

    def __init__(self, path: Path, spec: Spec) -> None:
        self._path, self._spec = path, spec
        self.renew()
        self._open()
        renew_after_fork(self)

    def renew(self) -> None:
        """Drops the compiled model, which the next call opens again, and makes a new lock."""
        abandon(getattr(self, "_model", None))
        self._model: Any = None
        self._lock = threading.Lock()

    def _open(self) -> None:
        path = self._path
        model, *self._buffers = open_on_gpu(path)
        signatures = model.get_signature_list()
        if len(signatures) != 1:
            raise KpdetectError(
                f"{path}: device gpu: expected one signature, received {', '.join(signatures) or 'none'}"
            )
        ((key, names),) = signatures.items()
        _check_names(path, names["inputs"], names["outputs"])
        image = model.get_input_tensor_details(key)[INPUT_NAME]
        _check_shape(path, INPUT_NAME, image["shape"], self._spec.input_shape)
        outputs = model.get_output_tensor_details(key)
        self.batch = int(image["shape"][0])
        self._dtype = np.dtype(image["dtype"])
        self._outputs = [(name, tuple(outputs[name]["shape"])) for name in names["outputs"]]
        self._model = model

    def __call__(self, crops: Crops) -> Outputs:
        with self._lock:
            try:
                if self._model is None:
                    self._open()
                (image,), outputs = self._buffers
                image.write(_as_type(crops, self._dtype))
                self._model.run_by_index(0, [image], outputs)
                return {
                    name: buffer.read(math.prod(shape), np.float32).reshape(shape)
                    for (name, shape), buffer in zip(self._outputs, outputs, strict=True)
                }
            except (ValueError, RuntimeError) as error:
                raise KpdetectError(f"{self._path}: cannot run a batch of {len(crops)}: {_line(error)}") from error


def _load_tflite(path: Path, placement: Placement, spec: Spec) -> Run:
    check_no_providers(placement, path)
    if placement.gpu is not None:
        if placement.gpu:
            raise KpdetectError(f"{path}: device '{placement.device}': LiteRT chooses the GPU itself; expected 'gpu'")
        on_gpu = _TFLiteOnGPU(path, spec)
        return _in_pieces(on_gpu, on_gpu.batch)
    model = _TFLite(path, placement.threads, spec)
    return _in_pieces(model, model.fixed_batch)


def _load_onnx(path: Path, placement: Placement, spec: Spec) -> Run:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtra("onnxruntime", "onnx", f"{path}: running an ONNX model") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = placement.threads, 1
    options.log_severity_level = 4  # the exceptions have the same messages
    chosen = onnx_providers(placement, onnxruntime.get_available_providers(), path)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=chosen)
    except Exception as error:  # onnxruntime's exceptions have no other common base class
        raise KpdetectError(f"{path}: not a valid ONNX model: {_line(error)}") from error
    check_started(path, chosen, session.get_providers())
    inputs, outputs = [x.name for x in session.get_inputs()], [x.name for x in session.get_outputs()]
    _check_names(path, inputs, outputs)
    _check_shape(path, INPUT_NAME, session.get_inputs()[0].shape, spec.input_shape)
    for output in session.get_outputs():
        if output.name in spec.outputs:
            _check_shape(path, output.name, output.shape, spec.outputs[output.name])

    def run(crops: Crops) -> Outputs:
        try:
            arrays = session.run(outputs, {INPUT_NAME: _as_type(crops, np.float32)})
        except Exception as error:  # onnxruntime's exceptions have no other common base class
            raise KpdetectError(f"{path}: cannot run a batch of {len(crops)}: {_line(error)}") from error
        return dict(zip(outputs, arrays, strict=True))

    batch = session.get_inputs()[0].shape[0]
    return _in_pieces(run, batch if isinstance(batch, int) else None)


def _load_saved_model(path: Path, placement: Placement, spec: Spec) -> Run:
    check_no_providers(placement, path)
    start_tensorflow_quietly()
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise MissingExtra("tensorflow", "train", f"{path}: running a SavedModel") from error
    try:
        with keras_scope(placement, path):
            loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]
    except KpdetectError:
        raise
    except Exception as error:  # TensorFlow's exceptions have no other common base class
        raise KpdetectError(
            f"{path}: expected a SavedModel with a signature 'serving_default': {_line(error)}"
        ) from error
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    _check_names(path, list(inputs), list(outputs))
    _check_shape(path, INPUT_NAME, inputs[INPUT_NAME].shape, spec.input_shape)

    def run(crops: Crops, keep: Any = loaded) -> Outputs:  # `keep` keeps the variables alive
        with keras_scope(placement, path):
            outputs = serve(**{INPUT_NAME: tf.constant(_as_type(crops, np.float32))})
        return {name: np.asarray(tensor) for name, tensor in outputs.items()}

    return run


def _load_keras(path: Path, placement: Placement, spec: Spec) -> Run:
    check_no_providers(placement, path)
    with keras_scope(placement, path):
        model = load_keras_file(path)
    try:
        _check_shape(path, INPUT_NAME, model.input_shape, spec.input_shape)
    except (AttributeError, TypeError) as error:  # several inputs, or none
        raise KpdetectError(f"{path}: expected a Keras model of one input '{INPUT_NAME}': {_line(error)}") from error
    return _keras_function(model, placement, path)


def _keras_function(model: Any, placement: Placement, path: Path) -> Run:
    def run(crops: Crops) -> Outputs:
        with keras_scope(placement, path):
            outputs = model(_as_type(crops, np.float32), training=False)
        named = outputs if isinstance(outputs, Mapping) else {OUTPUT_NAME: outputs}
        return {name: np.asarray(tensor) for name, tensor in named.items()}

    return run


_LOADERS: dict[str, Callable[[Path, Placement, Spec], Run]] = {
    "tflite": _load_tflite,
    "onnx": _load_onnx,
    "saved_model": _load_saved_model,
    "keras": _load_keras,
}


def _as_type(crops: Crops, dtype: Any) -> Crops:
    """Converts raw pixels to the type that a file takes; pixels that become uint8 are rounded."""
    if np.dtype(dtype) == np.uint8 and crops.dtype != np.uint8:
        crops = np.clip(np.rint(crops), 0, 255)
    return np.ascontiguousarray(crops, dtype)


def _in_pieces(run: Run, size: int | None) -> Run:
    """Runs a model of fixed batch size on batches of any size; the last piece is padded with copies of its last crop.

    Args:
        run: Runs batches of `size`.
        size: The fixed batch size; None for a free one, and then `run` is returned.
    """
    if size is None:
        return run

    def run_pieces(crops: Crops) -> Outputs:
        missing = -len(crops) % size
        whole = np.concatenate([crops, np.repeat(crops[-1:], missing, axis=0)])
        pieces = [run(whole[i : i + size]) for i in range(0, len(whole), size)]
        return {name: np.concatenate([piece[name] for piece in pieces])[: len(crops)] for name in pieces[0]}

    return run_pieces


def _check_shape(path: Path, name: str, received: Any, expected: tuple[int, ...]) -> None:
    """Checks the shape of an input or output without its batch; sizes that a file leaves open are accepted."""
    sizes = [int(size) if isinstance(size, int | np.integer) and size >= 0 else None for size in received]
    same = len(sizes) == len(expected) + 1 and all(
        size in (None, wanted) for size, wanted in zip(sizes[1:], expected, strict=True)
    )
    if not same:
        raise KpdetectError(
            f"{path}: '{name}': expected the shape (batch, {', '.join(map(str, expected))}) of its spec.json, "
            f"received {tuple(sizes)}"
        )


def _check_names(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if inputs != [INPUT_NAME] or OUTPUT_NAME not in outputs:
        raise KpdetectError(
            f"{path}: expected one input '{INPUT_NAME}' and an output '{OUTPUT_NAME}', received {inputs} and {outputs}"
        )


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _line(error: Exception) -> str:
    """An error's first line; some libraries add their whole stack."""
    return (str(error).splitlines() or [type(error).__name__])[0]
