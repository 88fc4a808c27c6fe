"""`local --detach`: the runs go on when the terminal is closed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_LEFT = b"\0"


class Detached:
    """The process that starts the runs, in a session of its own. The one that made it shows what it prints and ends."""

    def __init__(self) -> None:
        """Fork. Returns in the new process alone: the old one exits with 0 after `leave`, or as the new one does."""
        read, self._write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            os.close(self._write)
            _show_until_it_leaves(read, child)
        os.close(read)
        os.setsid()
        os.dup2(self._write, sys.stdout.fileno())

    def leave(self, log: Path) -> None:
        """Let the old process end. What is printed from now on goes to `log`."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(self._write, _LEFT)
        os.close(self._write)
        for path, flags, numbers in ((os.devnull, os.O_RDONLY, (0,)), (log, os.O_WRONLY | os.O_CREAT, (1, 2))):
            opened = os.open(path, flags, 0o600)
            for number in numbers:
                os.dup2(opened, number)
            os.close(opened)


def _show_until_it_leaves(read: int, child: int) -> None:
    left = False
    while data := os.read(read, 1 << 16):
        left = data.endswith(_LEFT)
        os.write(1, data.removesuffix(_LEFT))
        if left:
            break
    # Without exit handlers: they are the child's, too.
    os._exit(0 if left else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
