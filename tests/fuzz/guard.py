"""While it is on, what is tested may start no process, connect nowhere, unpickle no name, and write in one folder only.

An audit hook sees what Python code does by whatever way. It cannot be removed again, so it is only switched off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Events that are never right, and those about files whose first arguments are paths that get changed.
_NEVER = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "pickle.find_class", "ctypes.dlopen"),
    *("webbrowser.open", "urllib.Request", "os.kill", "os.killpg", "os.putenv", "os.chdir"),
)
_CHANGES = {
    **dict.fromkeys(("os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.chown", "os.truncate", "os.utime"), 1),
    **dict.fromkeys(("os.rename", "os.link"), 2),
    **dict.fromkeys(("shutil.rmtree", "sqlite3.connect"), 1),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_allowed: Path | None = None
_installed = False


class Forbidden(BaseException):
    """What is tested did what no input may lead it to do."""


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Within this, only files in `folder` may be made, changed or removed."""
    global _allowed, _installed  # noqa: PLW0603 - a hook is the process's
    if not _installed:
        sys.addaudithook(_look)
        _installed = True
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _allowed = folder.resolve()
    try:
        yield
    finally:
        _allowed = None
        sys.dont_write_bytecode = bytecode


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event in _NEVER:
        raise Forbidden(f"{event}{arguments!r}")
    changed = [arguments[0]] if event == "open" and arguments[2] & _WRITES else arguments[: _CHANGES.get(event, 0)]
    if event == "os.symlink":
        changed = [arguments[1]]
    for path in changed:
        if not isinstance(path, int) and not _is_inside(path):
            raise Forbidden(f"{event}{arguments!r}")


def _is_inside(path: str | bytes | os.PathLike[str]) -> bool:
    return _allowed is not None and Path(os.path.realpath(os.fsdecode(path))).is_relative_to(_allowed)
