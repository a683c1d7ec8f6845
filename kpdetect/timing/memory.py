"""Owns how much memory this process has needed so far."""

import sys
from pathlib import Path


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held resident, in bytes; None where the system does not tell (Windows).

    On Linux this is ``VmHWM``. `resource.getrusage` would count what the process that started this one held: Linux
    carries its figure over to a new program.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts in bytes
