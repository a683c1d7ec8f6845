"""Opens LiteRT interpreters: the file is verified first, and LiteRT's note about its delegate is not printed."""

import base64
import os
import threading
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
    if path.stat().st_size > MAX_FILE_BYTES:
        raise KpdetectError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, received {path.stat().st_size}")
    check_tflite(path.read_bytes(), str(path))
    from ai_edge_litert.interpreter import Interpreter

    _delegate_note.hide()
    return Interpreter(model_path=os.fspath(path), num_threads=threads)


class _DelegateNote:
    """LiteRT's note about its delegate, which it prints once per process."""

    def __init__(self) -> None:
        self.renew()
        self._printed = False
        renew_after_fork(self)

    def renew(self) -> None:
        """Replaces the lock: two threads that redirect stderr at once could leave it redirected."""
        self._lock = threading.Lock()

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
