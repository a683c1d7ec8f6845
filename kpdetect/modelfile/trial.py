"""Tries a model file in a child process: `kpdetect.modelfile.runtime.load` with ``untrusted=True``.

Runtimes are large C++ programs, in which a file that passes every check may still crash a kernel. The child process
loads the file and runs it, with limits of time and memory; only a file that passes is loaded in the calling process.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from kpdetect.core.assets import PACKAGE
from kpdetect.core.errors import KpdetectError

SECONDS = 120
MAX_MEMORY_BYTES = 6 << 30  # of data; TensorFlow alone takes about 1 GB
BATCHES = (1, 3)


def try_in_child(path: Path, kind: str) -> None:
    """Loads and runs a model file in a child process.

    Args:
        path: The file or folder.
        kind: A result of `kpdetect.modelfile.bundle.model_kind`.

    Raises:
        KpdetectError: It is a SavedModel, it cannot be loaded or run, or the child process crashed, or took too long.
    """
    if kind == "saved_model":
        raise KpdetectError(
            f"{path}: a SavedModel may read and write files when it runs, so untrusted ones are refused; "
            "ask for a .tflite or .onnx file"
        )
    command = [sys.executable, "-m", "kpdetect.modelfile.trial", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise KpdetectError(f"{path}: untrusted: loading and running it took more than {SECONDS} seconds") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise KpdetectError(f"{path}: untrusted: loading or running it ended a child process with {name}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise KpdetectError(lines[-1].removeprefix("kpdetect: "))


def _limit_resources() -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(path: str) -> int:
    """Main function of the child process."""
    import numpy as np

    from kpdetect.modelfile.runtime import load

    _limit_resources()
    try:
        model = load(path)
        random = np.random.default_rng(0)
        for count in BATCHES:
            model.predict(random.integers(0, 256, (count, *model.spec.input_shape), dtype=np.uint8))
    except (KpdetectError, MemoryError) as error:
        print(f"kpdetect: {' '.join(str(error).split()) or 'out of memory'}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
