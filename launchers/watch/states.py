"""Runs of any backend: find one, ask for states, wait for the end, follow the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from ..audit import provenance
from ..backends import logfile
from ..backends.k8s.backend import KubernetesBackend
from ..backends.local import LocalBackend
from ..backends.slurm.backend import SlurmBackend
from ..errors import LaunchError, SchedulerError, UsageError
from ..runs import claim, processes, records
from ..runs.records import Run, Status

Say = Callable[[str], None]
Wanted = Callable[[str], bool]
IsOver = Callable[[], bool]

#: In a run's folder: the process that submits it.
SUBMITTER = "submitter.json"
#: No submission takes longer.
_SUBMISSION = timedelta(minutes=15)
#: Seconds between two questions to a scheduler: quick at first, then sparing.
FIRST_POLL, LAST_POLL = 1.0, 15.0
#: A scheduler that does not answer for so long ends a wait; the job itself goes on.
PATIENCE_SECONDS = 600


class Backend(Protocol):
    """What every place to run offers."""

    scheme: str
    #: Whether what has ended may begin again under the same handle.
    requeues: bool

    def recover(self, handle: str) -> Run:
        """A run that the record does not know."""

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        """The runs, those together that one scheduler answers for."""

    def adopt(self, run: Run) -> Run | None:
        """The run as its scheduler names it, of one whose submission was cut off; None where it never came there."""

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """handle → status of runs of one place, with as few questions as it takes.

        Raises SchedulerError where its scheduler does not answer, UsageError where it cannot be asked from here.
        """

    def require_here(self, run: Run) -> None:
        """Raise UsageError if the run can be asked for elsewhere only."""

    def cancel(self, run: Run) -> None:
        """End the run. Ending one that has ended is fine."""

    def keep_log(self, run: Run, say: Say) -> None:
        """Save the log where ending the run would take it away."""

    def pause(self, run: Run, seconds: float) -> None:
        """Wait for so long, or until the run may have changed."""

    def has_log(self, run: Run) -> bool:
        """Whether there is anything to read."""

    def log(self, run: Run, count: int | None, wanted: Wanted, is_over: IsOver | None, say: Say) -> Iterator[str]:
        """The last `count` wanted lines (all for None); with `is_over` also what comes until then."""


BACKENDS: dict[str, Backend] = {
    backend.scheme: backend for backend in (LocalBackend(), SlurmBackend(), KubernetesBackend())
}


def backend_of(run: Run) -> Backend:
    return BACKENDS[run.scheme]


def find(text: str) -> list[Run]:
    """A run by handle, job name or "last"; all runs of a pipeline by its name. Raises UsageError if there is none."""
    if found := records.find(text):
        return [_named(run) for run in found]
    scheme, separator, _ = text.partition("://")
    if separator and scheme in BACKENDS:
        return [BACKENDS[scheme].recover(text)]
    if separator:
        raise UsageError(f"{text}: no such kind of handle\n    remedy: {' or '.join(f'{s}://...' for s in BACKENDS)}")
    remedy = "see `alignlaunch list`, or give the handle that the submission printed"
    what = "no run is recorded yet" if text == "last" else f"no run of a job or pipeline named {text!r} is recorded"
    raise UsageError(f"{what}\n    remedy: {remedy}")


def refresh(known: list[Run], unanswered: dict[str, LaunchError] | None = None) -> list[Run]:
    """The runs with their states of now. Only those that may have changed are asked for; the record learns them.

    A place that cannot be asked raises its error; with `unanswered` (handle → error, which is filled) its runs keep
    their last state, and all other places are asked.
    """
    fresh: dict[str, Run] = {}
    known = [_named(run, unanswered) if run.is_submitting else run for run in known]
    for scheme, backend in BACKENDS.items():
        named = [run for run in known if run.scheme == scheme and not run.is_submitting]
        open_ = [run for run in named if backend.requeues or not run.status.is_sure]
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
    """The run under the handle that its scheduler gave it, also where its submission was cut off before it was known.

    Errors as in `refresh`.
    """
    submitter = processes.read(Path(run.run_dir) / SUBMITTER)
    if not run.is_submitting or processes.lives(submitter):
        return run
    try:
        found = backend_of(run).adopt(run)
    except LaunchError as error:
        if unanswered is None:
            raise
        unanswered[run.handle] = error
        return run
    host = processes.elsewhere(submitter)
    if found is None and host and datetime.now(UTC) < datetime.fromisoformat(run.submitted_at) + _SUBMISSION:
        return run.with_status(Status("SUBMITTING", reason=f"by a process on {host}, which is not seen from here"))
    if found is None:  # asked again each time: what was started to submit it may outlive its own process
        return run.with_status(
            Status("UNKNOWN", reason="its submission was cut off, and the scheduler knows no such job")
        )
    records.replace_row(run.handle, found)
    claim.update(found)
    return found


def cancel(run: Run) -> None:
    """End the run. Raises UsageError where its scheduler has no job of it, or not yet."""
    if run.is_submitting:
        submitter = processes.read(Path(run.run_dir) / SUBMITTER)
        reason = run.status.reason or f"by process {submitter.get('pid')}; end that one"
        raise UsageError(f"{run.handle}: {run.status.state} ({reason})\n    nothing was cancelled")
    backend_of(run).cancel(run)


def states(run: Run, say: Say, pause: Callable[[Run, float], None]) -> Iterator[Run | None]:
    """The run after every question, until its state is final; None where the scheduler was away, which is said.

    Every change of state or reason is said, too. pause: waits so many seconds after a question, or less.
    """
    delay, last_answer, here, seen = FIRST_POLL, time.monotonic(), False, None
    while True:
        try:
            if not here:
                backend_of(run).require_here(run)
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
                say(describe(run))
            yield run
            if run.status.is_final:
                return
        pause(run, delay)
        delay = min(delay * 1.5, LAST_POLL)


def wait(run: Run, say: Say) -> Run:
    """Until the end."""
    for now in states(run, say, backend_of(run).pause):
        run = now or run
    return run


def follow(run: Run, say: Say, wanted: Wanted, count: int | None = None) -> Iterator[str]:
    """The last `count` log lines, and then more as they come, until the run ends."""
    due, delay = 0.0, FIRST_POLL
    answers = states(run, say, lambda *_: None)  # `is_over` has its own pace

    def is_over() -> bool:
        nonlocal due, delay
        if time.monotonic() < due:
            return False
        now = next(answers)
        due, delay = time.monotonic() + delay, min(delay * 1.5, LAST_POLL)
        return now is not None and now.status.is_final

    yield from backend_of(run).log(run, count, wanted, is_over, say)


def why_no_log(run: Run) -> str:
    """Why there is nothing to read of a run, and where more may be."""
    if run.scheme == KubernetesBackend.scheme and refresh([run])[0].status.is_final:
        return (
            "no log any more: its pods are gone, and nobody kept it\n"
            f"    remedy: see {run.output_dir or 'its output_dir'}/logs, where that is mounted: what each process wrote"
        )
    return "no log yet\n    remedy: --follow waits for it"


def describe(run: Run) -> str:
    status = run.status
    code = f" exit code {status.exit_code}" if status.exit_code is not None and status.is_final else ""
    reason = f" ({status.reason})" if status.reason else ""
    nodes = f" on {status.nodes}" if status.nodes else ""
    return f"{run.handle} {run.name}: {status.state}{code}{nodes}{reason}"


def selector(run: Run, rank: int | None, node: int | None) -> Wanted:
    """Which lines of the run's log belong to a rank or a node."""
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    nodes, per_node = int(made_from.get("nnodes", 1)), int(made_from.get("nproc_per_node", 1))
    launcher = made_from.get("launcher", "torchrun")
    if nodes * per_node == 1 and rank == 0:
        rank = None  # the one process marks nothing: every line is its own
    tasks = nodes if launcher == "deepspeed" else nodes * per_node
    ranks_are_tasks = run.scheme == "slurm" and launcher != "torchrun" and tasks == nodes * per_node
    if rank is not None and launcher == "deepspeed" and not ranks_are_tasks:
        raise UsageError("--rank: deepspeed's launcher does not mark its lines by rank\n    remedy: --node N")
    return logfile.selector(rank, node, per_node if ranks_are_tasks else None)
