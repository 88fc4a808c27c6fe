"""Another Debian's Python, unpacked beside the installed one: `python -m tests.support.pythons [SUITE]` prints where.

Debian has one Python a release, 3.11, 3.13 or 3.14, and no 3.12.
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import debian


def unpack(suite: str) -> Path:
    """Fetch a release's Python into .cache/python/, unless that was done. Returns the program."""
    folder = debian.CACHE / "python" / suite
    debian.unpack(suite, folder, ("python3",), _prepare)
    return _program(folder)


def _program(folder: Path) -> Path:
    return (folder / "root/usr/bin/python3").resolve()


def _prepare(folder: Path) -> None:
    root = folder / "root"
    (library,) = {path.parent for path in root.glob("usr/lib/*/libc.so.6")}
    debian.adapt(_program(folder), root, str(library))


if __name__ == "__main__":
    sys.stdout.write(f"{unpack(sys.argv[1] if len(sys.argv) > 1 else debian.OTHER)}\n")
