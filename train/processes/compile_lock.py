"""The lock of torch's compiler of operators, by which DeepSpeed builds its optimizers where a job first wants them.

torch's own lock is a file that says nothing of its owner: where a killed compile left it, every later run waits for it,
silently and for ever. Here the file names its owner, a dead owner's lock is taken away, and a long wait is told.
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

#: Longer than a compile that goes well takes: about 70 s for DeepSpeed's CPU Adam on two cores.
PATIENCE = 50.0


def use() -> None:
    """Have torch's compiler take its locks by these rules, in this process."""
    compiler: Any = cpp_extension  # it has no public way to choose one
    compiler.FileBaton = Baton


class Baton(FileBaton):
    """torch's lock, with the name of its owner in it."""

    def try_acquire(self) -> bool | None:
        """Whether the lock is had. One that a dead process of this machine left is taken away first."""
        path = Path(self.lock_file_path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # of two that find a dead owner, the second would take the first one's
            if _is_dead(_owner(path)):
                say(f"{path}: left behind by {_owner(path)}, which is dead; compiling anew")
                path.unlink()
        finally:
            os.close(folder)
        acquired = super().try_acquire()
        if acquired:
            path.write_text(_here(), encoding="utf-8")
        return acquired

    def wait(self) -> None:
        """Wait until the owner has compiled. Raises UserError where it dies; a long wait is told once."""
        path, begun, told = Path(self.lock_file_path), time.monotonic(), False
        while path.exists():
            time.sleep(self.wait_seconds)
            owner = _owner(path)
            if _is_dead(owner):
                raise UserError(f"{path}: {owner} died while it compiled this operator. Start the job again.")
            if not told and time.monotonic() - begun > PATIENCE:
                told = True
                say(
                    f"waiting for {path.parent.name}, which {owner or 'another process'} compiles since more than "
                    f"{PATIENCE:.0f} s; if nothing compiles there any more, remove {path}"
                )


def _here() -> str:
    """This process, by names that mean it alone: process ids count anew in every container."""
    return f"process {os.getpid()} on {platform.node()} ({os.readlink('/proc/self/ns/pid')})"  # noqa: PTH115 - no path


def _owner(path: Path) -> str:
    """Who holds the lock; nothing where it does not say, or is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that is no more; of another machine's nothing is known."""
    words = owner.split()
    if len(words) < 2 or words[2:] != _here().split()[2:]:
        return False
    return not Path("/proc", words[1]).exists()
