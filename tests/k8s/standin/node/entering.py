"""Another command in a running container, as `kubectl exec` has the kubelet start it."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path


class Entered:
    """The command, with the user, folder and environment of the container's process 1, which is `pid` out here.

    outputs: file descriptor by stream, 1 and 2; with a terminal 1 alone. stdin: None once it is closed.
    """

    def __init__(self, pid: int, words: Sequence[str], *, terminal: bool) -> None:
        about = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        user = [f"--set{name}={about[f'{name.capitalize()}'].split()[1]}" for name in ("uid", "gid")]
        variables = [word.partition("=") for word in Path(f"/proc/{pid}/environ").read_text().split("\0") if word]
        spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
        argv = [shutil.which("nsenter") or "nsenter", f"--target={pid}", *spaces, *user, "--", *words]
        env = {name: value for name, _, value in variables}
        self._terminal = terminal
        self.stdin: int | None
        if terminal:
            ours, theirs = pty.openpty()
            self._process = subprocess.Popen(argv, env=env, preexec_fn=lambda: os.login_tty(theirs))  # noqa: PLW1509
            os.close(theirs)
            self.stdin, self.outputs = ours, {1: ours}
        else:
            pipes = [os.pipe() for _ in range(3)]
            (stdin, ours_in), (ours_out, stdout), (ours_err, stderr) = pipes
            self._process = subprocess.Popen(argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
            for theirs in (stdin, stdout, stderr):
                os.close(theirs)
            self.stdin, self.outputs = ours_in, {1: ours_out, 2: ours_err}

    def read(self, stream: int) -> bytes:
        """What it said next; empty at the end."""
        try:
            return os.read(self.outputs[stream], 1 << 16)
        except OSError:  # the last user of a terminal has gone
            return b""

    def write(self, data: bytes) -> None:
        if self.stdin is not None:
            os.write(self.stdin, data)

    def close_stdin(self) -> None:
        if self.stdin is not None and not self._terminal:
            os.close(self.stdin)
            self.stdin = None

    def resize(self, width: int, height: int) -> None:
        if self._terminal and self.stdin is not None:
            fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def wait(self) -> int:
        return self._process.wait()

    def close(self) -> None:
        """End it if it runs still."""
        self._process.kill()
        self._process.wait()
        for descriptor in {*self.outputs.values()} | ({self.stdin} if self.stdin is not None else set()):
            os.close(descriptor)
