"""The daemons of a private Slurm: started with a log each, watched while something is waited for, and stopped."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class PrivateSlurmError(RuntimeError):
    """Slurm cannot be started here, or one of its daemons died."""


class Daemons:
    """Processes by name, in `root` and with `env`."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self.env = env
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, name: str, argv: Sequence[str]) -> None:
        """Start one; what it says goes to NAME.out."""
        with (self.root / f"{name}.out").open("ab") as log:
            # The death signal: if pytest is killed, nothing of this Slurm outlives it.
            self._running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                env=self.env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to pytest, which stops the daemons in order
            )

    def stop(self, name: str, signum: signal.Signals, patience: float = 15) -> None:
        """Stop one and wait for its end, by SIGKILL after `patience` seconds. One that does not run is no matter."""
        daemon = self._running.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(signum)
        try:
            daemon.wait(patience)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def wait(self, arrived: Callable[[], bool], timeout: float, why: Callable[[], str] = lambda: "timed out") -> None:
        """Poll until `arrived`, or say which daemon died, or `why` not."""
        deadline = time.monotonic() + timeout
        while not arrived():
            for name, daemon in self._running.items():
                if daemon.poll() is not None:
                    raise PrivateSlurmError(f"{name} ended with {daemon.returncode}: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise PrivateSlurmError(f"after {timeout:.0f} s: {why()} (logs: {self.root})")
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        return (self.root / f"{name}.out").read_text(encoding="utf-8", errors="replace")[-2000:].strip()
