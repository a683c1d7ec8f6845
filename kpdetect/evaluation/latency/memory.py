"""Owns how much memory a process needs: the most that this one needed so far, and what any holds now."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Resident:
    """What a process holds in memory, in bytes.

    Attributes:
        anonymous: What it holds itself; without swap it stays there until the process gives it back.
        mapped: Pages of files, such as libraries and a cache; the system takes clean ones away where memory is short.
    """

    anonymous: int
    mapped: int


def resident_memory(process: int | None = None) -> Resident | None:
    """What a process holds now; None where the system does not tell (all but Linux), or the process has ended.

    Args:
        process: Its number; this process by default.
    """
    fields = _status(process)
    if "RssAnon" not in fields:
        return None
    return Resident(fields["RssAnon"], fields["RssFile"] + fields["RssShmem"])


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held resident, in bytes; None where the system does not tell (Windows).

    On Linux this is ``VmHWM``. `resource.getrusage` would count what the process that started this one held: Linux
    carries its figure over to a new program.
    """
    if Path("/proc/self/status").is_file():
        return _status(None).get("VmHWM")
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts in bytes


def _status(process: int | None) -> dict[str, int]:
    """The sizes in a process's status, in bytes, by their names."""
    try:
        lines = Path(f"/proc/{'self' if process is None else process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in sizes}
