"""The alignlaunch command as a user calls it: in processes of its own, from a folder, with an environment."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

ALIGNLAUNCH = [sys.executable, "-m", "alignlaunch.launchers.cli"]


class Command:
    """What the users of every cluster do."""

    folder: Path
    env: dict[str, str]
    #: Seconds that a call may take.
    patience = 600

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running."""
        return subprocess.Popen(
            [*ALIGNLAUNCH, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """The command, ended; its exit code must be `code`, and no traceback may be seen."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=self.patience)
        done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        assert "Traceback" not in stderr, stderr
        assert code is None or done.returncode == code, f"{arguments}: exit {done.returncode}\n{stdout}\n{stderr}"
        return done

    def in_terminal(self, *arguments: str, typed: bytes = b"", code: int = 0) -> str:
        """What the command prints on a terminal of its own, where this is typed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*ALIGNLAUNCH, *arguments], cwd=self.folder, env=self.env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.write(ours, typed)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # the terminal's last user has gone
            pass
        assert process.wait(60) == code, said
        os.close(ours)
        return said.decode()

    def status(self, run: str) -> dict[str, Any]:
        """`alignlaunch status RUN --json`."""
        shown = json.loads(self.call("status", run, "--json").stdout)
        assert len(shown) == 1
        status: dict[str, Any] = shown[0]
        return status
