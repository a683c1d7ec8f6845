"""Atomic writing of files and folders: to a temporary name beside the target, which is then renamed."""

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

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a full disk, an exhausted quota and a file above the size limit."""


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path with the same suffix beside `path`, and renames it to `path` if the block succeeds.

    If the block fails, the temporary file is removed and an existing `path` is unchanged.

    >>> with atomic_file("/tmp/kpdetect_doctest.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> Path("/tmp/kpdetect_doctest.txt").read_text()
    'whole'

    Args:
        path: The file to write. Missing parent folders are created.

    Raises:
        KpdetectError: The folder is not writable, the disk is full, or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise KpdetectError(f"{target}: expected a file name to write to, received a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise KpdetectError(f"{target}: cannot write there: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _set_default_permissions(temporary)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise KpdetectError(
            f"{target}: cannot be written: {error.strerror}; an existing file is unchanged. Free space and try again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(target: str | None, document: Any) -> None:
    """Writes a JSON document where an option ``--json`` says.

    >>> write_json("-", {"faces": 2})
    {
     "faces": 2
    }

    Args:
        target: A file, ``-`` for stdout, or None to write nothing.
        document: A JSON-serialisable value.

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
    """Yields an empty temporary folder beside `path`, and renames it to `path` if the block succeeds.

    Example::

        with atomic_folder("bundle") as temporary:
            (temporary / "spec.json").write_text("{}")

    Args:
        path: The folder to write.
        overwrite: Replace an existing folder.

    Raises:
        KpdetectError: The folder exists (without `overwrite`), or its parent is not writable.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise KpdetectError(f"{target}: already exists; choose another folder or remove this one")
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


def _set_default_permissions(path: Path) -> None:
    """Sets the permissions that a file created by ``open`` has; `tempfile` creates private ones."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _replace_folder(source: Path, target: Path) -> None:
    """Renames `source` to `target`; an old folder is removed only after the new one is in place."""
    if not target.exists():
        os.replace(source, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.replace(target, old / "old")
    os.replace(source, target)
    shutil.rmtree(old, ignore_errors=True)
