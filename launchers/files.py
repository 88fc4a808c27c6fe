"""Atomic writes, and the errors for files that cannot be read or written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .errors import UsageError


def write_atomic(path: Path, text: str) -> None:
    """Write a file by way of a temporary one and a rename: readers see the old content or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        umask = os.umask(0)  # Python can read the umask only by setting it
        os.umask(umask)
        mode = 0o777 if path.suffix in (".sh", ".sbatch") else 0o666
        Path(temporary).chmod(mode & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def unwritable(folder: Path, error: OSError) -> UsageError:
    """The error for a folder that cannot be written: no rights, no space, or a file of that name."""
    place = error.filename or folder
    return UsageError(
        f"{folder}: cannot be written: {error.strerror} ({place})\n    remedy: check rights, space and quota"
    )


def unreadable(error: OSError) -> UsageError:
    return UsageError(f"{error.filename}: cannot be read: {error.strerror}\n    remedy: check its rights")
