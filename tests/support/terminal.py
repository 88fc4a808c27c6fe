"""A command in a terminal of its own: what it shows, and keys for it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])")


@dataclass
class Terminal:
    """ours: our end of it. theirs: the command's end, kept open so that its settings can be read at the end."""

    process: subprocess.Popen[bytes]
    ours: int
    theirs: int
    written: str = ""

    def read(self, seconds: float = 0.2) -> str:
        """All that was written so far, with escapes."""
        while select.select([self.ours], [], [], seconds)[0]:
            self.written += os.read(self.ours, 65536).decode(errors="replace")
        return self.written

    def screen(self) -> list[str]:
        """The lines of the last whole picture that a full-screen program drew."""
        picture = self.read().rpartition("\x1b[H")[2]
        return [line.rstrip() for line in _ESCAPES.sub("", picture).replace("\r", "").split("\n")]

    def text(self) -> str:
        return _ESCAPES.sub("", self.read()).replace("\r", "")

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def until(self, arrived: Callable[[list[str]], bool], seconds: float = 60) -> list[str]:
        """The screen as soon as it is as wanted."""
        deadline = time.monotonic() + seconds
        while not arrived(screen := self.screen()):
            assert time.monotonic() < deadline, "\n".join(["timed out; the screen:", *screen])
            assert self.process.poll() is None, self.text()
        return screen

    def until_written(self, arrived: Callable[[str], bool], seconds: float = 60) -> None:
        """Wait until all that was written so far, with escapes, is as wanted."""
        deadline = time.monotonic() + seconds
        while not arrived(self.read()):
            assert time.monotonic() < deadline, f"timed out: {self.written[-2000:]!r}"

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.theirs)


@contextmanager
def terminal(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], size: tuple[int, int] = (30, 140)
) -> Iterator[Terminal]:
    """Run a command as a shell in a terminal of (lines, columns) does. It is killed at the end if it still runs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    kept = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        # What a shell starts in the background ignores Ctrl-C, and so would all that this test run starts.
        ["env", "--default-signal", "setsid", "--ctty", "--wait", *command],
        cwd=cwd,
        env={"TERM": "xterm-256color", **kept},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        yield Terminal(process, ours, theirs)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
