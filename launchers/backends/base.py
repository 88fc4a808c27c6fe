"""What every place to run offers: the one protocol through which submission, watching and the command line reach it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..job.job import Job
from ..render.render import Target
from ..runs.records import Run, Status

#: Reports something to the user, in prose.
Say = Callable[[str], None]
#: Whether a line of a log is asked for.
Wanted = Callable[[str], bool]
#: Whether the run has ended, so that no further lines will come.
IsOver = Callable[[], bool]


@dataclass(frozen=True)
class Rendered:
    """The files of a job for one target, and the folder in git that they belong into."""

    job: Job
    target: Target
    folder: Path
    files: dict[str, str]
    #: The run ends before the model is loaded. The files are the same: an environment variable requests it.
    preflight_only: bool = False


class Backend(Protocol):
    """A place to run. A new one is a class in a module beside this one, and its line in `registry`."""

    #: The first part of its handles, and the name of its command.
    scheme: str
    #: Which rendered files it runs.
    target: Target
    #: Whether it starts a job only after the jobs that it depends on have succeeded.
    orders_jobs: bool
    #: Whether its nodes see this machine's folders and get variables from this shell.
    shares_files: bool
    #: Whether an ended run may start again under the same handle.
    requeues: bool
    #: Whether each line of a log begins with the number of its Slurm task (`srun --label`).
    labels_tasks: bool

    # --- before a submission ---

    def check(self, rendered: Rendered, say: Say) -> None:
        """Report what is doubtful about a job in this place. Raises UsageError for what cannot work."""

    def script(self, rendered: Rendered) -> str:
        """What would run, for a dry run to print."""

    def dry_run(self, rendered: Rendered) -> str:
        """What the scheduler answers when it only tests the files; "" where there is nothing to ask.

        Raises SchedulerError where it would refuse them.
        """

    # --- submission ---

    def handle_prefix(self, job: Job) -> str:
        """What the handle of a submitted job will begin with: SCHEME://, and the cluster where it is known."""

    def submit(self, rendered: Rendered, run: Run, after: Sequence[Run], say: Say) -> Run:
        """Hand the copies in the run's folder to the scheduler. Returns the run with its handle and log.

        after: the runs that have to succeed first. Raises LaunchError where the scheduler refuses, LostJobError where
        it may have the job although its answer was lost; any other exception means that it has none.
        """

    # --- afterwards ---

    def recover(self, handle: str) -> Run:
        """A run that is not in the record. Raises UsageError if the handle is none of this place."""

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        """The runs in groups, one for each scheduler that has to be asked."""

    def adopt(self, run: Run) -> Run | None:
        """The run with its handle, after its submission was cut off; None if the scheduler never got it."""

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """handle → status of the runs of one group, with as few questions as possible.

        Raises SchedulerError where the scheduler does not answer, UsageError where it cannot be asked from here.
        """

    def require_here(self, run: Run) -> None:
        """Raise UsageError if this machine cannot ask for the run."""

    def cancel(self, run: Run) -> None:
        """End the run. Ending one that has ended is fine."""

    def keep_log(self, run: Run, say: Say) -> None:
        """Save the log where ending the run would delete it."""

    def pause(self, run: Run, seconds: float) -> None:
        """Wait for so many seconds, or less if the run may have changed."""

    def has_log(self, run: Run) -> bool:
        """Whether there is anything to read."""

    def why_no_log(self, run: Run) -> str:
        """Why there is nothing to read, and a remedy. run: with its latest status."""

    def log(self, run: Run, count: int | None, wanted: Wanted, is_over: IsOver | None, say: Say) -> Iterator[str]:
        """The last `count` wanted lines (all for None); with `is_over` also every later line until it is true."""


@runtime_checkable
class ForegroundBackend(Backend, Protocol):
    """A place whose runs are processes of this machine, started by alignlaunch itself once it is their turn."""

    def start(self, rendered: Rendered, run: Run) -> subprocess.Popen[bytes]:
        """Start a submitted run."""

    def kill(self, run: Run) -> None:
        """End every process of the run at once."""
