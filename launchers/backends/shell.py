"""Runs a scheduler's commands, with a timeout."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from ..errors import SchedulerError

#: Slurm's clients give up on a dead controller after some tens of seconds; this limit is for commands that hang anyway.
TIMEOUT_SECONDS = 120


def run(
    arguments: list[str], env: Mapping[str, str] | None = None, seconds: float = TIMEOUT_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command and return it, whatever its exit code. Raises SchedulerError if it is missing or hangs.

    env: its whole environment; else this process's.
    """
    try:
        return subprocess.run(
            arguments,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise SchedulerError(
            f"{arguments[0]}: command not found\n    remedy: run this on a login node of the cluster"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(f"{arguments[0]}: no answer in {seconds:g} s") from error
