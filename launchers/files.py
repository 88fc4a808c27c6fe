"""Writing files whole, and one wording for each thing that keeps a file from being read or written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .errors import UsageError


def write_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o777 if path.suffix in (".sh", ".sbatch") else 0o666
        Path(temporary).chmod(mode & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def unwritable(folder: Path, error: OSError) -> UsageError:
    """The one wording for a folder that cannot be written: no rights, no space, a file in the way."""
    place = error.filename or folder
    return UsageError(
        f"{folder}: cannot be written: {error.strerror} ({place})\n    remedy: check rights, space and quota"
    )


def unreadable(error: OSError) -> UsageError:
    return UsageError(f"{error.filename}: cannot be read: {error.strerror}\n    remedy: check its rights")
