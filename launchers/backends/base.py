"""The protocol of a place to run. Submission, watching and the command line use a place through it only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..job.job import Job
from ..render.render import Target
from ..runs.records import Run, Status

#: Shows the user a message.
Say = Callable[[str], None]
#: Whether to show a line of a log.
Wanted = Callable[[str], bool]
#: Whether the run has ended, so that no further lines will come.
IsOver = Callable[[], bool]


@dataclass(frozen=True)
class Rendered:
    """The files of a job for one target, and the folder under version control where they belong."""

    job: Job
    target: Target
    folder: Path
    files: dict[str, str]
    #: The run ends after the preflight, before the model is loaded. An environment variable requests it, so that the
    #: files are the same.
    preflight_only: bool = False
    #: It is submitted to wait for its turn: a point of a sweep that runs only so many at once.
    suspended: bool = False


class Backend(Protocol):
    """A place to run. A new one is a class in a module of this folder, and a line in `registry`."""

    #: The part of its handles before "://", and the name of its command.
    scheme: str
    #: The target whose rendered files it runs.
    target: Target
    #: Whether it starts a job only after the jobs that it depends on have succeeded.
    orders_jobs: bool
    #: Whether its nodes see this machine's folders, and its jobs get the environment variables of this shell.
    shares_files: bool
    #: Whether an ended run may start again under the same handle.
    requeues: bool
    #: Whether each line of a log begins with the number of its Slurm task (`srun --label`).
    labels_tasks: bool

    # --- before a submission ---

    def check(self, rendered: Rendered, say: Say) -> None:
        """Report warnings about running a job in this place. Raises UsageError for what cannot work."""

    def script(self, rendered: Rendered) -> str:
        """What would run, for a dry run to print."""

    def dry_run(self, rendered: Rendered) -> str:
        """The scheduler's answer to a test of the files; "" if this place has no such test.

        Raises SchedulerError where it would refuse them.
        """

    # --- submission ---

    def handle_prefix(self, job: Job) -> str:
        """What the handle of a submitted job will begin with: SCHEME://, and the cluster if it is known by then."""

    def submit(self, rendered: Rendered, run: Run, after: Sequence[Run], say: Say) -> Run:
        """Submit the copies of the files in the run's folder. Returns the run with its handle and log.

        after: the runs that have to succeed first. Raises LostJobError if the scheduler's answer was lost,
        so that it may have the job. After any other LaunchError (a refusal), or an OSError, it has no job.
        """

    # --- afterwards ---

    def options_of(self, run: Run) -> dict[str, str]:
        """The options of this place's command with which a job goes where the run was."""

    def recover(self, handle: str) -> Run:
        """A run that is not in the record, from its handle. Raises UsageError if it is no handle of this place."""

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        """The runs in groups, one for each scheduler (or namespace) that has to be queried."""

    def adopt(self, run: Run) -> Run | None:
        """The run with its handle, after its submission was interrupted; None if the scheduler has no such job."""

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """handle → status of the runs of one group, with as few queries as possible.

        Raises SchedulerError if the scheduler does not answer, UsageError if it cannot be queried from here.
        """

    def require_here(self, run: Run) -> None:
        """Raise UsageError if this machine cannot query the run's state."""

    def cancel(self, run: Run) -> None:
        """End the run. No error if it has ended already."""

    def keep_log(self, run: Run, say: Say) -> None:
        """Save the log, if ending the run would delete it."""

    def shell(self, run: Run, node: int, command: Sequence[str], *, terminal: bool) -> list[str]:
        """The command line that runs `command` where that node of a running run is, in the folder of its job.

        run: with its latest status. node: from 0 on. terminal: it is to have this terminal. Raises UsageError where
        nobody can get in from here.
        """

    def pause(self, run: Run, seconds: float) -> None:
        """Wait for that many seconds, or less if the run may have changed."""

    def has_log(self, run: Run) -> bool:
        """Whether there is a log to read."""

    def why_no_log(self, run: Run) -> str:
        """Why there is no log, and a remedy. run: with its latest status."""

    def log(self, run: Run, count: int | None, wanted: Wanted, is_over: IsOver | None, say: Say) -> Iterator[str]:
        """The last `count` wanted lines (all for None); with `is_over` also every later line until it is true."""


@runtime_checkable
class ArrayBackend(Backend, Protocol):
    """A place that takes the points of a sweep as one array of jobs."""

    def folder_of_point(self, whole: Path, index: int) -> Path:
        """The run folder of a point. whole: the folder of the whole array."""

    def submit_array(
        self,
        array: Rendered,
        whole: Path,
        points: Mapping[int, Rendered],
        runs: Mapping[int, Run],
        after: Sequence[Run],
        say: Say,
    ) -> dict[int, Run]:
        """Submit the copies in the array's folder and in those of its points, by their indices. As `submit`."""


@runtime_checkable
class TurnsBackend(Backend, Protocol):
    """A place with jobs that wait, suspended, until somebody lets them go."""

    def has_queue(self, job: Job) -> bool:
        """Whether a queue of the place itself decides when the job's turn comes."""

    def waits_for_its_turn(self, run: Run) -> bool:
        """Whether the run is suspended, by its latest status."""

    def release(self, run: Run) -> None:
        """Let a suspended run go."""


@runtime_checkable
class ForegroundBackend(Backend, Protocol):
    """A place whose runs are processes of this machine, started by alignlaunch itself once it is their turn."""

    #: Whether that is a process which no terminal ends.
    detach: bool

    def start(self, rendered: Rendered, run: Run) -> subprocess.Popen[bytes]:
        """Start a submitted run."""

    def kill(self, run: Run) -> None:
        """End every process of the run at once."""
