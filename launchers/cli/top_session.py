"""One use of `alignlaunch top`: what its keys do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO

import click

from ..results.watched import Look, Watcher
from ..runs.records import Run
from . import screen
from .options import say
from .screen import Screen
from .top_view import View

#: This command line, for what a key does.
_ALIGNLAUNCH = [sys.executable, "-m", "alignlaunch.launchers.cli"]
#: Seconds until the screen shows what the last look has found.
_TICK = 0.2
#: Lines of a log that are shown at first.
_TAIL = 500


def watch(name: str | None, wanted: Collection[str], count: int, interval: float) -> None:
    """Show runs until q or Ctrl-C is pressed. name, wanted, count: see `Look`. interval: seconds between two looks.

    Raises UsageError without a terminal.
    """
    screen.require("top", "alignlaunch list")
    session = _Session(Watcher(Look(name, wanted, count), interval), View())
    with Screen() as terminal, suppress(KeyboardInterrupt, EOFError):  # EOFError: the terminal is gone
        session.run(terminal)
    for run in session.cancelling:
        say(f"{run.handle}: it is still being cancelled")
    # A look may be going on in its thread, in the middle of a library: Python's own exit could wait for it, or abort.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Session:
    """One use of `top`."""

    def __init__(self, watcher: Watcher, view: View) -> None:
        self._watcher, self._view = watcher, view
        self._asked: Run | None = None  # whether to cancel it
        self._cancels: list[tuple[Run, subprocess.Popen[bytes], IO[bytes]]] = []

    @property
    def cancelling(self) -> list[Run]:
        """Those whose end is still waited for."""
        return [run for run, process, _ in self._cancels if process.poll() is None]

    def run(self, terminal: Screen) -> None:
        """Until q is pressed."""
        shown = None
        while True:
            seen = self._watcher.seen
            if self._tell_cancelled() or seen is not shown or terminal.is_resized:
                self._view.take(seen)
                self._draw(terminal)
                shown = seen
            for key in terminal.keys(_TICK):
                if key == "q" and not self._asked:
                    return
                self._press(key, terminal)
                self._draw(terminal)

    def _draw(self, terminal: Screen) -> None:
        terminal.draw(self._view.picture(terminal.size.width, terminal.size.height))

    def _press(self, key: str, terminal: Screen) -> None:
        view, self._view.message = self._view, ""
        if self._asked:
            run, self._asked = self._asked, None
            if key in ("y", "Y"):
                self._cancel(run)
            else:
                view.message = f"{run.handle} was not cancelled"
        elif key in ("up", "k"):
            view.select(-1)
        elif key in ("down", "j"):
            view.select(1)
        elif key in ("s", "right", "S", "left"):
            view.sort(1 if key in ("s", "right") else -1)
        elif key == "r":
            view.reverse()
        elif key in ("l", "enter", "c") and view.chosen:
            run = view.chosen.run
            if key != "c":
                _follow(run, terminal)
            elif run.status.is_final:
                view.message = f"{run.handle} has ended"
            else:
                self._asked = run
                view.message = f"Cancel {run.handle} ({run.name})? y/n"

    def _cancel(self, run: Run) -> None:
        """In a process of its own, since it takes as long as the run takes to save; it goes on after q."""
        said = TemporaryFile()  # noqa: SIM115 - read and closed when the process has ended
        process = subprocess.Popen(
            [*_ALIGNLAUNCH, "cancel", run.handle],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        self._cancels.append((run, process, said))
        self._view.message = f"{run.handle} is being cancelled"

    def _tell_cancelled(self) -> bool:
        """Whether a run that was to be cancelled is, or cannot be: its message says so."""
        for one in self._cancels:
            run, process, said = one
            if process.poll() is not None:
                said.seek(0)
                text = " ".join(said.read().decode(errors="replace").split())
                said.close()
                self._cancels.remove(one)
                self._view.message = text if process.returncode else f"{run.handle} is cancelled"
                self._watcher.look_again()
                return True
        return False


def _follow(run: Run, terminal: Screen) -> None:
    """Its log, until q or Ctrl-C. In a process group of its own: Ctrl-C is for this process."""
    with terminal.aside():
        click.echo(f"--- log of {run.handle} ({run.name}); q goes back ---")
        logs = [*_ALIGNLAUNCH, "logs", "--follow", "--tail", str(_TAIL), run.handle]
        process = subprocess.Popen(logs, stdin=subprocess.DEVNULL, process_group=0)
        try:
            is_told = False
            while "q" not in terminal.keys(_TICK):
                if process.poll() is not None and not is_told:
                    is_told = True
                    click.echo("--- its end; q goes back ---")
        except KeyboardInterrupt:
            pass
        finally:
            process.kill()
            process.wait()
