"""The lock of torch's C++/CUDA extension builder, with which DeepSpeed compiles its optimizers on first use.

torch's own lock is an empty file: if a killed compile leaves it behind, every later run waits for it, silently and for
ever. Here the file names its owner, the lock of a dead owner is removed, and a long wait is reported.
"""

from __future__ import annotations

import fcntl
import os
import platform
import time
from pathlib import Path
from typing import Any

from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton

from ..errors import UserError
from ..reporting import say

#: Seconds of waiting before it is reported. DeepSpeed's CPU Adam compiles in about 70 s on two cores.
PATIENCE = 50.0


def use() -> None:
    """Make torch's extension builder use this lock in this process."""
    compiler: Any = cpp_extension  # there is no public way to choose the lock
    compiler.FileBaton = Baton


class Baton(FileBaton):
    """torch's lock, which also holds the name of its owner."""

    def try_acquire(self) -> bool | None:
        """Whether the lock was acquired. A lock that a dead process of this machine left is removed first."""
        path = Path(self.lock_file_path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # else a second waiter removes the first one's new lock
            if _is_dead(_owner(path)):
                say(f"{path}: left behind by {_owner(path)}, which is dead; compiling anew")
                path.unlink()
        finally:
            os.close(folder)
        acquired = super().try_acquire()
        if acquired:
            path.write_text(_name(os.getpid()), encoding="utf-8")
        return acquired

    def wait(self) -> None:
        """Wait until the owner has compiled. A long wait is reported once. Raises UserError if the owner dies."""
        path, begun, reported = Path(self.lock_file_path), time.monotonic(), False
        while path.exists():
            time.sleep(self.wait_seconds)
            owner = _owner(path)
            if _is_dead(owner):
                raise UserError(f"{path}: {owner} died while it compiled this operator. Start the job again.")
            if not reported and time.monotonic() - begun > PATIENCE:
                reported = True
                say(
                    f"waiting for {path.parent.name}, which {owner or 'another process'} has been compiling for more "
                    f"than {PATIENCE:.0f} s; if nothing compiles there any more, remove {path}"
                )


def _name(process: int | str) -> str:
    """A process here by id, host and PID namespace: ids alone are not unique, as each container has its own."""
    return f"process {process} on {platform.node()} ({os.readlink('/proc/self/ns/pid')})"  # noqa: PTH115 - no path


def _owner(path: Path) -> str:
    """Who holds the lock; empty if it does not say, or is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_dead(owner: str) -> bool:
    """Whether the owner was a process in this PID namespace that has ended; False for any other, as nobody can tell."""
    words = owner.split()
    if len(words) < 2 or owner != _name(words[1]):
        return False
    return not Path("/proc", words[1]).exists()
