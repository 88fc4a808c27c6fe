"""Runs in any place: find them, query their states, wait for their end, cancel them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..backends import registry
from ..backends.base import Say
from ..backends.registry import PLACES
from ..errors import LaunchError, SchedulerError, UsageError
from ..runs import claim, processes, records
from ..runs.records import Run, Status
from . import words

#: File in a run's folder: which process submits it.
SUBMITTER = "submitter.json"
#: A submission by a process on another machine, which cannot be seen from here, counts as running for this long.
_SUBMISSION = timedelta(minutes=15)
#: Seconds between two queries of a scheduler: the first interval, which then grows up to the last.
FIRST_POLL, LAST_POLL = 1.0, 15.0
#: `wait` and --follow give up after the scheduler has not answered for this long. The job itself goes on.
PATIENCE_SECONDS = 600


def find(text: str) -> list[Run]:
    """A run by handle, job name or "last"; all runs of a pipeline by its name. Raises UsageError if there is none."""
    if found := records.find(text):
        return [_named(run) for run in found]
    scheme, separator, _ = text.partition("://")
    if separator and scheme in PLACES:
        return [registry.of(scheme).recover(text)]
    if separator:
        raise UsageError(f"{text}: no such kind of handle\n    remedy: {' or '.join(f'{s}://...' for s in PLACES)}")
    remedy = "see `alignlaunch list`, or give the handle that the submission printed"
    what = "no run is recorded yet" if text == "last" else f"no run of a job or pipeline named {text!r} is recorded"
    raise UsageError(f"{what}\n    remedy: {remedy}")


def refresh(known: list[Run], unanswered: dict[str, LaunchError] | None = None) -> list[Run]:
    """The runs with their present states, also stored in the record. Queries only runs whose state may have changed.

    If a place cannot be queried, its error is raised; with `unanswered`, a dict that is filled with handle → error, its
    runs keep their last state instead, and the other places are queried all the same.
    """
    fresh: dict[str, Run] = {}
    known = [_named(run, unanswered) if run.is_submitting else run for run in known]
    for scheme in PLACES:
        named = [run for run in known if run.scheme == scheme and not run.is_submitting]
        if not named:
            continue
        backend = registry.of(scheme)
        open_ = [run for run in named if backend.requeues or not run.status.is_permanent]
        for group in backend.by_place(open_) if open_ else ():
            try:
                answers = backend.statuses(group)
            except LaunchError as error:
                if unanswered is None:
                    raise
                unanswered |= {run.handle: error for run in group}
                continue
            fresh |= {run.handle: run.with_status(answers[run.handle]) for run in group}
    changed = [run for run in known if run.handle in fresh and fresh[run.handle] != run]
    if changed:
        records.update([fresh[run.handle] for run in changed])
    return [fresh.get(run.handle, run) for run in known]


def _named(run: Run, unanswered: dict[str, LaunchError] | None = None) -> Run:
    """The run with its scheduler's handle. If its submission was interrupted, ask the scheduler whether it has the job.

    Errors as in `refresh`.
    """
    submitter = processes.read(Path(run.run_dir) / SUBMITTER)
    if not run.is_submitting or processes.is_running(submitter):
        return run
    try:
        found = registry.of(run.scheme).adopt(run)
    except LaunchError as error:
        if unanswered is None:
            raise
        unanswered[run.handle] = error
        return run
    host = processes.other_host(submitter)
    if found is None and host and datetime.now(UTC) < datetime.fromisoformat(run.submitted_at) + _SUBMISSION:
        return run.with_status(Status("SUBMITTING", reason=f"by a process on {host}, which is not seen from here"))
    if found is None:  # asked again each time: the sbatch of an interrupted submission may still be running
        return run.with_status(
            Status("UNKNOWN", reason="its submission was cut off, and the scheduler knows no such job")
        )
    records.replace_row(run.handle, found)
    claim.update(found)
    return found


def cancel(run: Run) -> None:
    """End the run. Raises UsageError if its scheduler has no job for it, or does not have it yet."""
    if run.is_submitting:
        submitter = processes.read(Path(run.run_dir) / SUBMITTER)
        reason = run.status.reason or f"by process {submitter.get('pid')}; end that one"
        raise UsageError(f"{run.handle}: {run.status.state} ({reason})\n    nothing was cancelled")
    registry.of(run.scheme).cancel(run)


def states(run: Run, say: Say, pause: Callable[[Run, float], None]) -> Iterator[Run | None]:
    """Yield the run after each query, until its state is final; None if the scheduler did not answer.

    Reports missing answers, and each change of state or reason. pause: waits between queries, these seconds or less.
    Raises SchedulerError after PATIENCE_SECONDS without an answer.
    """
    delay, last_answer, here, seen = FIRST_POLL, time.monotonic(), False, None
    while True:
        try:
            if not here:
                registry.of(run.scheme).require_here(run)
                here = True
            run = refresh([run])[0]
        except SchedulerError as error:
            if time.monotonic() - last_answer > PATIENCE_SECONDS:
                raise
            say(f"{str(error).splitlines()[0]}; asking again in {delay:.0f} s")
            yield None
        else:
            last_answer = time.monotonic()
            if (run.status.state, run.status.reason) != seen:
                seen = (run.status.state, run.status.reason)
                say(words.describe(run))
            yield run
            if run.status.is_final:
                return
        pause(run, delay)
        delay = min(delay * 1.5, LAST_POLL)


def wait(run: Run, say: Say) -> Run:
    """Wait until the run has ended. Returns it with its last state."""
    for now in states(run, say, registry.of(run.scheme).pause):
        run = now or run
    return run
