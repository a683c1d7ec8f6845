"""Memory of a process: its peak, and what it holds now."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Resident:
    """Resident memory of a process, in bytes.

    Attributes:
        anonymous: Memory of its own; without swap it stays resident until it is freed.
        mapped: Pages of files, such as libraries and caches; the system drops clean ones when memory is short.
    """

    anonymous: int
    mapped: int


def resident_memory(process: int | None = None) -> Resident | None:
    """Returns a process's resident memory; None on systems other than Linux, or if the process has ended.

    Args:
        process: Its number; default: this process.
    """
    fields = _status(process)
    if "RssAnon" not in fields:
        return None
    return Resident(fields["RssAnon"], fields["RssFile"] + fields["RssShmem"])


def peak_memory_bytes() -> int | None:
    """Returns the peak resident memory of this process in bytes; None on Windows.

    On Linux this is ``VmHWM``: `resource.getrusage` would include the peak of the parent process.
    """
    if Path("/proc/self/status").is_file():
        return _status(None).get("VmHWM")
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS reports bytes


def _status(process: int | None) -> dict[str, int]:
    """Returns the sizes in a process's status file by name, in bytes."""
    try:
        lines = Path(f"/proc/{'self' if process is None else process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in sizes}
