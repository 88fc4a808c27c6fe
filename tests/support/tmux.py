"""A shell in a real terminal multiplexer: keys in, the lines of the screen out."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest


def require() -> None:
    """Without tmux the test is skipped, or fails where ALIGNLAUNCH_REQUIRE says that there must be one."""
    if shutil.which("tmux"):
        return
    if "tmux" in os.environ.get("ALIGNLAUNCH_REQUIRE", "").split(","):
        pytest.fail("ALIGNLAUNCH_REQUIRE holds tmux, but: tmux is not installed")
    pytest.skip("tmux is not installed")


class Tmux:
    """One session of a server of its own."""

    def __init__(self, cwd: Path, env: Mapping[str, str], size: tuple[int, int]) -> None:
        """size: lines, columns."""
        self._name = f"alignlaunch-{secrets.token_hex(4)}"
        self._env = {name: value for name, value in env.items() if name != "TMUX"} | {"PS1": "$ ", "LANG": "C.UTF-8"}
        lines, columns = map(str, size)
        shell = ("bash", "--norc", "--noprofile")
        self._call("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", lines, "-c", str(cwd), *shell)

    def type(self, *keys: str) -> None:
        """Keys as tmux names them: characters, Down, Enter, C-c."""
        self._call("send-keys", *keys)

    def screen(self) -> list[str]:
        return [line.rstrip() for line in self._call("capture-pane", "-p").splitlines()]

    def until(self, arrived: Callable[[list[str]], bool], seconds: float = 60) -> list[str]:
        """The screen as soon as it is as wanted."""
        deadline = time.monotonic() + seconds
        while not arrived(screen := self.screen()):
            assert time.monotonic() < deadline, "\n".join(["timed out; the screen:", *screen])
            time.sleep(0.1)
        return screen

    def end(self) -> None:
        self._call("kill-server")

    def _call(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-L", self._name, *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True).stdout


@contextmanager
def session(cwd: Path, env: Mapping[str, str], size: tuple[int, int] = (30, 140)) -> Iterator[Tmux]:
    one = Tmux(cwd, env, size)
    try:
        yield one
    finally:
        one.end()
