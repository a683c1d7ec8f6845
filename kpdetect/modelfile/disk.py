"""Checks for a full disk before large files are written."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from kpdetect.core.errors import KpdetectError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a full disk, an exhausted quota and a file above the size limit."""


def reserve_space(folder: Path, size: int, what: str) -> None:
    """Checks that a file of `size` bytes can be written to a folder, by allocating one and removing it.

    HDF5 and TensorFlow do not survive a full disk: h5py prints tracebacks and may crash when it closes the file.

    Args:
        folder: An existing folder.
        size: Bytes that will be written.
        what: Name of the file that will be written, for the error.

    Raises:
        KpdetectError: The disk is full, a quota is exhausted, or files of that size are not allowed.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            elif shutil.disk_usage(folder).free < size:  # systems other than Linux
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(folder, what, error) from error
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems without allocation
            raise KpdetectError(f"{folder}: cannot write {what}: {error.strerror or error}") from error


def disk_full(folder: Path, what: str, error: OSError) -> KpdetectError:
    """Returns the error for a full disk."""
    return KpdetectError(
        f"{folder.parent}: cannot write {what}: {error.strerror}; existing files are unchanged. "
        "Free space there, or choose another folder"
    )
