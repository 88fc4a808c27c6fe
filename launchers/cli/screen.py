"""A terminal as one picture that keys change. However the program ends, the terminal is as it was."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..errors import UsageError

_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", flags=re.DOTALL)
_NAMES = {"\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\r": "enter", "\n": "enter"}
_NAMES |= {"\x1b[D": "left", "\x1bOD": "left", "\x1b[C": "right", "\x1bOC": "right", "\x1b": "escape"}


def require(command: str, remedy: str) -> None:
    """Raise UsageError where there is no terminal that can show a picture."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(f"{command}: needs a terminal\n    remedy: {remedy}")


class Screen:
    """The picture, while it is entered. Keys come one by one and unseen; Ctrl-C is still KeyboardInterrupt.

    SIGTERM and SIGHUP raise SystemExit; at Ctrl-Z the terminal is given back until the program goes on.
    """

    def __enter__(self) -> Screen:
        from rich.live import Live

        self._input = sys.stdin.fileno()
        self._settings = termios.tcgetattr(self._input)
        self._to_stop = False
        self._handlers = {one: signal.signal(one, _end) for one in (signal.SIGTERM, signal.SIGHUP)}
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
        self._live = Live(screen=True, auto_refresh=False)
        self.size = self._live.console.size
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._live.stop()
        finally:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)
            for one, handler in self._handlers.items():
                signal.signal(one, handler)

    def _begin(self) -> None:
        tty.setcbreak(self._input)
        self._live.start()

    def draw(self, picture: Any) -> None:
        """Show what rich can print."""
        self._live.update(picture, refresh=True)

    @property
    def is_resized(self) -> bool:
        """Whether the terminal has another size since the last time that this was asked."""
        before, self.size = self.size, self._live.console.size
        return before != self.size

    def keys(self, seconds: float) -> list[str]:
        """What was pressed, waiting so long for it: characters, and names such as `up`. Raises EOFError."""
        if self._to_stop:
            self._to_stop = False
            with self.aside():
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)
                os.kill(os.getpid(), signal.SIGSTOP)
            return ["resumed"]
        if not select.select([self._input], [], [], seconds)[0]:
            return []
        try:
            pressed = os.read(self._input, 1024).decode(errors="replace")
        except OSError as error:
            raise EOFError from error
        if not pressed:
            raise EOFError
        return [_NAMES.get(key, key) for key in _KEY.findall(pressed)]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The terminal as it was before, for text."""
        self._live.stop()
        try:
            yield
        finally:
            self._begin()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._to_stop = True


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)
