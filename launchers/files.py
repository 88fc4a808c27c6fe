"""Writing files and folders with the right permissions, and the errors for those that cannot be read or written."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import UsageError


def write_atomic(path: Path, text: str, *, mode: int | None = None) -> None:
    """Write a file by way of a temporary one and a rename: readers see the old content or the new, never a part.

    mode: its permissions; by default what the umask allows, to others no more than its folder does.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(temporary).chmod(_default_mode(path) if mode is None else mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def append(path: Path, text: str, *, mode: int | None = None) -> None:
    """Append to a file. mode: its permissions if it is made now, as in `write_atomic`. Raises OSError."""
    with suppress(FileExistsError):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.fchmod(handle, _default_mode(path) if mode is None else mode)
        os.close(handle)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it: this one for the user alone, or, in a set-group-ID folder, the group to read.

    Raises FileExistsError, OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    if folder.parent.stat().st_mode & stat.S_ISGID:  # the sign of a folder that a group shares
        folder.chmod(0o2750)


def shared_mode(folder: Path) -> int:
    """Permissions of a file in a folder that several users may share: those who may write in it read and write it."""
    writers = folder.stat().st_mode & 0o022
    return 0o600 | writers | writers << 1


def _default_mode(path: Path) -> int:
    umask = os.umask(0)  # Python can read the umask only by setting it
    os.umask(umask)
    folder = path.parent.stat().st_mode
    others = folder & 0o077 | (folder & 0o011) << 2  # who may enter it may read, who may write in it may write
    return (0o777 if path.suffix in (".sh", ".sbatch") else 0o666) & ~umask & (0o700 | others)


def unwritable(folder: Path, error: OSError) -> UsageError:
    """The error for a folder that cannot be written: no rights, no space, or a file of that name."""
    place = error.filename or folder
    return UsageError(
        f"{folder}: cannot be written: {error.strerror} ({place})\n    remedy: check rights, space and quota"
    )


def unreadable(error: OSError) -> UsageError:
    return UsageError(f"{error.filename}: cannot be read: {error.strerror}\n    remedy: check its rights")
