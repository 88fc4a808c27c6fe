"""Whether two nodes see the same files, by all sizes and a few contents: reading everything would take too long."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

_MOST_FILES = 2_000
_SAMPLED_FILES = 8
_SAMPLED_BYTES = 256 * 1024


def of(path: Path) -> str:
    """A summary of a file or folder, such as "3 files, 1.2 GiB, 1f0e3c"; "missing"; or why it cannot be read.

    The hash covers every relative name and size, and the beginning and end of about eight files spread over the list.
    """
    try:
        if not path.exists():
            return "missing"
        files = [path] if path.is_file() else _files(path)
        sizes = [file.stat().st_size for file in files]
        digest = sha256()
        for file, size in zip(files, sizes, strict=True):
            digest.update(os.fsencode(file.relative_to(path)) + f" {size}\n".encode())
        for file in files[:: max(1, len(files) // _SAMPLED_FILES)]:
            digest.update(_ends(file))
    except OSError as error:
        return f"unreadable: {error.strerror}"
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"{count}, {_size(sum(sizes))}, {digest.hexdigest()[:6]}"


def _files(folder: Path) -> list[Path]:
    """The first files below a folder, in the same order on every node; no hidden files (such as locks), no caches."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
        if len(found) >= _MOST_FILES:
            break
    return found[:_MOST_FILES]


def _ends(file: Path) -> bytes:
    with file.open("rb") as stream:
        begin = stream.read(_SAMPLED_BYTES)
        stream.seek(max(0, file.stat().st_size - _SAMPLED_BYTES))
        return begin + stream.read(_SAMPLED_BYTES)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
