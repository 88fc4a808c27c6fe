"""Ask a running job to save a checkpoint now."""

from __future__ import annotations

import time
from pathlib import Path

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


def save(run: Run, say: Say, *, stop: bool) -> Path:
    """Have a run save after its present step, with `stop` also end. Returns the checkpoint once it is complete.

    Raises UsageError if it does not run, or its output folder is not seen from here; LaunchError if it ended before.
    """
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
    next_query = time.monotonic() + states.LAST_POLL
    while requests.read(output, run.run_dir):
        time.sleep(_POLL)
        if time.monotonic() > next_query:
            next_query = time.monotonic() + states.LAST_POLL
            if states.refresh([run])[0].status.is_final:
                break
    saved = checkpoints.complete_checkpoints(output)
    if not saved or saved[-1:] == before[-1:]:
        ended = states.refresh([run])[0]
        remedy = f"see `alignlaunch logs {run.handle}`"
        raise LaunchError(f"{words.describe(ended)}\n    no checkpoint was written; {remedy}")
    return saved[-1]
