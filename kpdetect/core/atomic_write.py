"""Owns writing that leaves nothing half done: to a temporary name beside the target, then renamed."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path of the same suffix beside `path`; renames it to `path` when the block ends well.

    >>> with atomic_file("/tmp/kpdetect_doctest.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> Path("/tmp/kpdetect_doctest.txt").read_text()
    'whole'

    Raises:
        KpdetectError: The folder cannot be written to, the disk is full, or `path` is a folder itself.
    """
    target = Path(path)
    if target.is_dir():
        raise KpdetectError(f"{target}: expected the name of a file to write, received that of a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise KpdetectError(f"{target}: cannot write there: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _open_to_all(temporary)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise KpdetectError(
            f"{target}: cannot be written: {error.strerror}; what was there before stays as it was: make room and go on"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(target: str | None, document: Any) -> None:
    """Writes what a command found out.

    Args:
        target: A file, ``-`` for stdout, or None for nowhere: the value of an option ``--json``.
        document: Anything that JSON can say.

    Raises:
        KpdetectError: The file cannot be written.
    """
    text = json.dumps(document, indent=1)
    if target == "-":
        print(text)
    elif target is not None:
        with atomic_file(target) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


@contextmanager
def atomic_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty temporary folder beside `path`; renames it to `path` when the block ends well.

    Raises:
        KpdetectError: The folder is there already (without `overwrite`), or it cannot be written to.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise KpdetectError(f"{target}: is there already; choose another folder or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise KpdetectError(f"{target}: cannot write there: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        _replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _open_to_all(path: Path) -> None:
    """Gives a temporary file, which is private, the rights a plainly written file would have."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _replace_folder(source: Path, target: Path) -> None:
    """Puts `source` in the place of `target`; a folder that was there is removed only once the new one stands."""
    if not target.exists():
        os.replace(source, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.replace(target, old / "old")
    os.replace(source, target)
    shutil.rmtree(old, ignore_errors=True)
