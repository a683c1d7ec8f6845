"""Opens TFLite files with LiteRT, for the processor or a GPU: the file is verified first, and notes are not printed."""

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.core.fork import renew_after_fork
from kpdetect.core.quiet import stderr_without
from kpdetect.core.tflite_check import check_tflite

MAX_FILE_BYTES = 2 << 30  # of a TFLite file

# A model of one operator, ABS of one number. LiteRT prints "Created TensorFlow Lite XNNPACK delegate for CPU." once per
# process, when it first allocates tensors, and has no setting against it.
_SMALLEST_MODEL = base64.b85decode(
    "7ytkOR7OlQ000gE6aWwa3;+lK000C44gdfE5C8xGEC2ui_y7O^0{{R30{{R37ytkO3;+NC1ONa4`2YX^{Qv*|1ONm81ONa40RR916aWAK"
    "000gE7yuLi5C9AS2mk~C4gdfE6aWAK7ytkOL;wH)NB{r;OaK4?00000000000RR915C8xG000UA3;+NC2mk~C3IG5A2mk;83;+NC0RR91"
    "0RR910RR91000000RR910RR910RR91000000ssI2Gynhq1ONa4;Q#;s3;+NC0ssI23;+NC0RR91c>n+a0RR910RR913;+-S3;+NC2mk~C"
    "3;+NC3;+NC0RR913;+NC0RR91cmMzZ0RR910RR910RR915C8xG3;+xO3jhEB000C43;+NCWdHyG0001G"
)
_NOTE = b"Created TensorFlow Lite XNNPACK delegate"


def open_interpreter(path: Path, threads: int) -> Any:
    """Opens a TFLite file.

    Args:
        path: The file.
        threads: Number of threads.

    Returns:
        A LiteRT interpreter; its tensors are not allocated.

    Raises:
        KpdetectError: The file is damaged; see `kpdetect.core.tflite_check`.
        ValueError: LiteRT rejects the file.
    """
    _check_file(path)
    from ai_edge_litert.interpreter import Interpreter

    _delegate_note.hide()
    return Interpreter(model_path=os.fspath(path), num_threads=threads)


def open_on_gpu(path: Path) -> tuple[Any, list[Any], list[Any]]:
    """Compiles a TFLite file for the GPU, which LiteRT reaches through Vulkan, Metal or Direct3D.

    Numbers are float32, since 16 bits are too coarse for the decoding of heatmaps.

    Args:
        path: The file.

    Returns:
        LiteRT's ``CompiledModel``, its input buffers and its output buffers, after a first run.

    Raises:
        KpdetectError: The file is damaged, or there is no GPU that LiteRT can use, or it cannot run the model.
    """
    _check_file(path)
    try:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import GpuOptions, Options
    except ImportError as error:
        raise KpdetectError(f'{path}: device gpu: needs a newer LiteRT: pip install "ai-edge-litert>=2.1"') from error
    options = Options(HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=True))
    with _delegate_note.redirection(b""), suppress(RuntimeError, ValueError):  # LiteRT prints each step
        model = CompiledModel.from_file(os.fspath(path), options=options)
        inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        model.run_by_index(0, inputs, outputs)
        return model, inputs, outputs
    raise KpdetectError(
        f"{path}: device gpu: LiteRT finds no GPU with Vulkan, Metal or Direct3D, or cannot run this model on it; "
        "a file of one crop at a time may run (kpdetect export --batch 1), or an .onnx file with onnxruntime-gpu"
    )


def _check_file(path: Path) -> None:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise KpdetectError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, received {path.stat().st_size}")
    check_tflite(path.read_bytes(), str(path))


class _DelegateNote:
    """LiteRT's note about its delegate, which it prints once per process."""

    def __init__(self) -> None:
        self.renew()
        self._printed = False
        renew_after_fork(self)

    def renew(self) -> None:
        """Replaces the lock: two threads that redirect stderr at once could leave it redirected."""
        self._lock = threading.Lock()

    @contextmanager
    def redirection(self, *texts: bytes) -> Iterator[None]:
        """As `stderr_without`, for one thread at a time."""
        with self._lock, stderr_without(*texts):
            yield

    def hide(self) -> None:
        """Makes LiteRT print it to nowhere."""
        with self._lock:
            if self._printed:
                return
            from ai_edge_litert.interpreter import Interpreter

            with stderr_without(_NOTE):
                Interpreter(model_content=_SMALLEST_MODEL, num_threads=1).allocate_tensors()
            self._printed = True


_delegate_note = _DelegateNote()
