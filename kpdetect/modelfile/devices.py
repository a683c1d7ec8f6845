"""Where a model file is computed: processor or GPU, threads, and execution providers of ONNX Runtime."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError

Provider = str | tuple[str, Mapping[str, Any]]
"""An execution provider of ONNX Runtime: its name, or its name and its options."""

GPU_PROVIDERS: dict[str, str] = {
    "CUDAExecutionProvider": "device_id",
    "ROCMExecutionProvider": "device_id",
    "MIGraphXExecutionProvider": "device_id",
    "DmlExecutionProvider": "device_id",
    "CoreMLExecutionProvider": "",
    "WebGpuExecutionProvider": "",
}
"""ONNX Runtime's execution providers for GPUs in order of preference, and their option that chooses one of several.
TensorRT is not among them: it compiles a model for minutes, so ask for it by `Placement.providers`."""

CPU_PROVIDER = "CPUExecutionProvider"

ONNX_GPU_ADVICE = "pip uninstall onnxruntime && pip install onnxruntime-gpu (onnxruntime-directml on Windows)"

_DEVICE = re.compile(r"cpu|gpu(:\d{1,3})?")


@dataclass(frozen=True)
class Placement:
    """Where and how a runtime computes.

    Attributes:
        threads: Number of threads of the processor per batch, in TFLite and ONNX; TensorFlow has its own setting.
        device: ``cpu``, ``gpu``, or ``gpu:1`` for the second GPU. None is the processor for TFLite and ONNX, and the
            choice of TensorFlow for its own models.
        providers: For ONNX, execution providers in order of preference, instead of a device.

    Raises:
        KpdetectError: A value is not one of these, or there are both a device and providers.

    Example:
        >>> Placement(device="gpu:1").gpu
        1
    """

    threads: int = 1
    device: str | None = None
    providers: tuple[Provider, ...] = ()

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise KpdetectError(f"threads: expected 1 or more, received {self.threads}")
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise KpdetectError(f"device: expected cpu, gpu, or gpu:1 for the second GPU, received '{self.device}'")
        if self.device is not None and self.providers:
            raise KpdetectError(f"expected a device or providers, received the device '{self.device}' and providers")

    @property
    def gpu(self) -> int | None:
        """Number of the GPU, from 0; None if the device is not a GPU."""
        if self.device is None or not self.device.startswith("gpu"):
            return None
        return int(self.device.partition(":")[2] or 0)


def onnx_providers(placement: Placement, available: Sequence[str], path: Path) -> list[Any]:
    """Returns the execution providers for ONNX Runtime; the processor is always the last, for single operations.

    >>> onnx_providers(Placement(device="gpu"), ["CUDAExecutionProvider", "CPUExecutionProvider"], Path("a.onnx"))
    [('CUDAExecutionProvider', {'device_id': 0}), 'CPUExecutionProvider']

    Args:
        placement: Where to compute.
        available: The providers of this ONNX Runtime.
        path: The model's file, for error messages.

    Raises:
        KpdetectError: This ONNX Runtime lacks a provider.
    """
    if placement.providers:
        for provider in placement.providers:
            name = provider if isinstance(provider, str) else provider[0]
            if name not in available:
                raise KpdetectError(f"{path}: provider '{name}': this ONNX Runtime has {', '.join(available)}")
        chosen: list[Any] = [one if isinstance(one, str) else (one[0], dict(one[1])) for one in placement.providers]
        return chosen if CPU_PROVIDER in chosen else [*chosen, CPU_PROVIDER]
    if placement.gpu is None:
        return [CPU_PROVIDER]
    found = [name for name in GPU_PROVIDERS if name in available]
    if not found:
        raise KpdetectError(
            f"{path}: device '{placement.device}': this ONNX Runtime has no provider for GPUs, only "
            f"{', '.join(available)}: {ONNX_GPU_ADVICE}"
        )
    name, option = found[0], GPU_PROVIDERS[found[0]]
    if not option and placement.gpu:
        raise KpdetectError(f"{path}: device '{placement.device}': {name} chooses the GPU itself; expected 'gpu'")
    return [(name, {option: placement.gpu}) if option else name, CPU_PROVIDER]


def check_started(path: Path, expected: Sequence[Any], running: Sequence[str]) -> None:
    """Checks that the first provider runs: ONNX Runtime replaces one that fails to start by the processor.

    Args:
        path: The model's file, for error messages.
        expected: The result of `onnx_providers`.
        running: The providers of the session.

    Raises:
        KpdetectError: Another provider runs.
    """
    first = expected[0] if isinstance(expected[0], str) else expected[0][0]
    if first not in running:
        raise KpdetectError(
            f"{path}: ONNX Runtime could not start {first}, and would run on {', '.join(running)}; its libraries "
            "(for NVIDIA: CUDA and cuDNN) and the driver have to fit this version of ONNX Runtime"
        )


def keras_scope(placement: Placement, path: Path) -> AbstractContextManager[Any]:
    """Returns a context in which Keras or TensorFlow computes on the placement's device.

    Args:
        placement: Where to compute.
        path: The model's file, for error messages.

    Raises:
        KpdetectError: There is no such GPU.
    """
    if placement.device is None:
        return nullcontext()
    import keras

    kind, number = ("cpu", 0) if placement.gpu is None else ("gpu", placement.gpu)
    found = keras.distribution.list_devices(kind)
    if number >= len(found):
        raise KpdetectError(
            f"{path}: device '{placement.device}': {keras.config.backend()} finds {len(found)} GPUs; "
            'for NVIDIA on Linux: pip install "tensorflow[and-cuda]"'
        )
    scope: AbstractContextManager[Any] = keras.device(f"{kind}:{number}")
    return scope


def check_no_providers(placement: Placement, path: Path) -> None:
    """Checks that there are no execution providers, which only ONNX Runtime has.

    Raises:
        KpdetectError: There are.
    """
    if placement.providers:
        raise KpdetectError(f"{path}: providers are for .onnx files; expected a device: cpu or gpu")
