"""Ask running jobs to save a checkpoint now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from alignlaunch.train.outputs import checkpoints
from alignlaunch.train.processes import requests
from alignlaunch.train.processes.requests import Request

from ..backends import registry
from ..backends.base import Say
from ..errors import LaunchError, UsageError
from ..files import unwritable
from ..runs.records import Run
from . import states, words

#: Seconds between two looks whether the request was carried out.
_POLL = 0.5


def save(runs: Sequence[Run], say: Say, *, stop: bool) -> list[Path | LaunchError]:
    """Have runs save after their present step, with `stop` also end. For each the checkpoint, or why there is none.

    All are asked before any is waited for: a later one could end in the meantime.
    """
    asked: list[_Asked | LaunchError] = []
    for run in runs:
        try:
            asked.append(_ask(run, say, stop=stop))
        except LaunchError as error:
            asked.append(error)
    found: list[Path | LaunchError] = []
    for one in asked:
        try:
            found.append(one if isinstance(one, LaunchError) else _wait(one))
        except LaunchError as error:
            found.append(error)
    return found


class _Asked(NamedTuple):
    """A run that was asked, and the checkpoints that it had."""

    run: Run
    before: list[Path]


def _ask(run: Run, say: Say, *, stop: bool) -> _Asked:
    """Raises UsageError if the run does not run, or its output folder is not seen from here."""
    run = states.refresh([run])[0]
    if not registry.of(run.scheme).shares_files:
        raise UsageError(
            f"{run.handle}: its output folder is in its pods, and not seen from here\n"
            "    remedy: train.save_steps; a pod that is evicted or deleted saves by itself"
        )
    if run.status.state != "RUNNING":
        raise UsageError(f"{words.describe(run)}\n    remedy: only a running job can save")
    output = Path(run.output_dir)
    before = checkpoints.complete_checkpoints(output)
    try:
        requests.write(output, Request.STOP if stop else Request.SAVE, run.run_dir)
    except OSError as error:
        raise unwritable(output, error) from error
    say(f"{run.name} saves after its present step; to stop waiting for it, Ctrl-C")
    return _Asked(run, before)


def _wait(asked: _Asked) -> Path:
    """The checkpoint, once it is complete. Raises LaunchError if the run ended before, or does not train yet."""
    run, output = asked.run, Path(asked.run.output_dir)
    next_query = time.monotonic() + states.LAST_POLL
    while requests.read(output, run.run_dir):
        time.sleep(_POLL)
        if time.monotonic() > next_query:
            next_query = time.monotonic() + states.LAST_POLL
            if states.refresh([run])[0].status.is_final:
                break
    saved = checkpoints.complete_checkpoints(output)
    if not saved or saved[-1:] == asked.before[-1:]:
        ended = states.refresh([run])[0]
        if not ended.status.is_final:  # its processes drop a request before the first step
            remedy = f"ask again when `alignlaunch status {run.handle}` shows a step"
            raise LaunchError(
                f"{words.describe(ended)}\n    it does not train yet: nothing to save\n    remedy: {remedy}"
            )
        remedy = f"see `alignlaunch logs {run.handle}`"
        raise LaunchError(f"{words.describe(ended)}\n    no checkpoint was written; {remedy}")
    return saved[-1]
