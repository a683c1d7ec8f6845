"""Atomic writing of files and folders: to a temporary name beside the target, which is then renamed."""

import errno
import functools
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a full disk, an exhausted quota and a file above the size limit."""

REPLACED = "replaced"
"""Name of an old folder within the temporary folder that it is moved to."""

STALE_SECONDS = 24 * 3600.0
"""Age at which a temporary file is removed even if its process seems to be running."""

TEMPORARY_NAME = re.compile(r"\.(?P<target>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)\.[a-z0-9_]{8}(\..*)?")
"""Names of temporary files and folders: target, host, process and a random part."""


_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR_FOLDERS = ("/dev/fd", "/proc/self/fd")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path with the same suffix beside `path`, and renames it to `path` if the block succeeds.

    If the block fails, the temporary file is removed and an existing `path` is unchanged. If `path` is a symbolic link,
    the file that it names is replaced and the link is kept. If it is a pipe or a device, such as ``/dev/stdout``, the
    content is written to it at the end. Temporary files of killed processes are removed from the folder, see
    `remove_leftovers`.

    >>> with atomic_file("/tmp/kpdetect_doctest.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> Path("/tmp/kpdetect_doctest.txt").read_text()
    'whole'

    Args:
        path: The file to write. Missing parent folders are created.

    Raises:
        KpdetectError: The folder is not writable, the disk is full (see `is_disk_full`), or `path` is a folder.
    """
    given = Path(path)
    if given.is_dir():
        raise KpdetectError(f"{given}: expected a file name to write to, received a folder")
    is_stream = _is_stream(given)
    target = Path(os.path.realpath(given)) if given.is_symlink() and not is_stream else given
    try:
        if target.is_symlink() and not is_stream:  # links in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        folder = Path(tempfile.gettempdir()) if is_stream else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers_once(folder)
        prefix = _temporary_prefix(target.stem[:50])  # names have a limit, which the prefix must not exceed
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=folder)
    except OSError as error:
        raise _cannot_write(given, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if is_stream:
            _copy_to_stream(temporary, given)
        else:
            _set_default_permissions(temporary)
            os.replace(temporary, target)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise _cannot_write(given, error) from error
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
        KpdetectError: The folder exists (without `overwrite`), its parent is not writable, or the disk is full.
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)  # a link itself is kept
    if target.exists() and not overwrite:
        raise KpdetectError(f"{target}: already exists; choose another folder or remove this one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers_once(target.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_temporary_prefix(target.name), dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        _replace_folder(temporary, target)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or the error that caused it, is a full disk.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        error = error.__cause__ or error.__context__  # Keras raises errors again "from None"
    return False


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files and folders in `folder` that killed processes left.

    An entry is removed if its process on this host is gone, or if it is older than `STALE_SECONDS`. If a process was
    killed while it replaced a folder, the old folder is restored.

    Args:
        folder: The folder to clean; its subfolders are not searched.

    Example:
        >>> remove_leftovers(Path("/tmp"))
    """
    for entry in os.scandir(folder):
        match = TEMPORARY_NAME.fullmatch(entry.name) if entry.name.startswith(".") else None
        if match is None:
            continue
        path = Path(entry.path)
        try:
            is_stale = time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS
            if not is_stale and (match["host"] != _host() or is_running(int(match["process"]))):
                continue
            replaced, target = path / REPLACED, folder / match["target"]
            if replaced.exists() and not target.exists():
                os.replace(replaced, target)
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:  # another process may clean the same folder
            continue


@functools.lru_cache(maxsize=1024)
def remove_leftovers_once(folder: Path) -> None:
    """Like `remove_leftovers`, but only once per folder in this process, since large folders are slow to list."""
    remove_leftovers(folder)


def _temporary_prefix(name: str) -> str:
    return f".{name}.{_host()}-{os.getpid()}."


def _host() -> str:
    """Eight hexadecimal digits that differ between hosts and containers, whose processes may share the disk."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{zlib.crc32(f'{socket.gethostname()} {namespace}'.encode()):08x}"


def is_running(process: int) -> bool:
    """Whether a process of this number runs on this machine.

    >>> is_running(os.getpid())
    True
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # a process of another user
        return True
    return True


def _cannot_write(target: Path, error: OSError) -> KpdetectError:
    if error.errno not in DISK_FULL:
        return KpdetectError(f"{target}: cannot write there: {error.strerror or error}")
    return KpdetectError(
        f"{target}: cannot be written: {os.strerror(error.errno or 0)}; an existing file is unchanged. Free space and "
        "try again"
    )


def _descriptor(path: Path) -> int | None:
    """The file descriptor of ``/dev/stdout``, ``/dev/fd/3`` and the like; None for other paths."""
    folder, number = os.path.split(os.path.abspath(path))
    if folder in _DESCRIPTOR_FOLDERS and number.isdecimal():
        return int(number)
    return _DESCRIPTORS.get(os.path.join(folder, number))


def _is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a device, a socket or an open file descriptor: nothing that a file may replace."""
    return _descriptor(path) is not None or (path.exists() and not path.is_file())


def _copy_to_stream(source: Path, path: Path) -> None:
    """Writes a file's content to a stream.

    Raises:
        KpdetectError: The stream cannot be written to, for example since the reader of a pipe is gone.
    """
    number = _descriptor(path)
    try:
        if number == 1:
            sys.stdout.flush()  # what was printed before comes first
        stream = path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")
        with source.open("rb") as content, stream:
            shutil.copyfileobj(content, stream)
    except OSError as error:
        raise _cannot_write(path, error) from error


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
    old = Path(tempfile.mkdtemp(prefix=_temporary_prefix(target.name), dir=target.parent))
    os.replace(target, old / REPLACED)
    os.replace(source, target)
    shutil.rmtree(old, ignore_errors=True)
