"""Runs on Slurm: submit, find, watch and cancel them. Job ids repeat, so each job is checked to be the run's own."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ...audit import drift, provenance
from ...errors import SchedulerError, UsageError
from ...job.job import Job
from ...render.array import ARRAY
from ...render.render import SBATCH, Target
from ...runs import runfolder
from ...runs.records import Run, Status
from ..base import Rendered, Say
from ..logfile import LogFile
from . import checks, client, submission
from .answers import ReportedJob

#: A job id; for a task of an array ARRAY_TASK.
_JOB_ID = re.compile(r"\d+(_\d+)?")
#: States in which Slurm itself ended the job: by TERM if it had begun. Which exit code Slurm reports for it varies.
_ENDED_BY_SLURM = ("CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED")
_TERMINATED = 128 + 15

_CANCELLED = "cancelled"  # a file in the run's folder
_LOST = Status("UNKNOWN", reason="Slurm has forgotten the job, keeps no accounts, and it left no exit code")


class SlurmBackend(LogFile):
    """State from squeue while slurmctld remembers the job, then from sacct, then from the script's exit_code file."""

    scheme = client.SCHEME
    target: Target = "slurm"
    orders_jobs = True
    requeues = True
    labels_tasks = True

    def check(self, rendered: Rendered, say: Say) -> None:
        for name in submission.overriding_variables():
            say(f"warning: {name} in your environment wins over the script; `unset {name}` to run what is committed")
        for doubt in checks.check(rendered.job):
            say(f"warning: {doubt}")
        if left_out := submission.excluded(rendered.job):
            say(f"without {', '.join(left_out)}: found faulty or left out by the job; `alignlaunch nodes` tells more")

    def script(self, rendered: Rendered) -> str:
        return rendered.files[self._script_name(rendered)]

    def _script_name(self, rendered: Rendered) -> str:
        return ARRAY if ARRAY in rendered.files else SBATCH

    def dry_run(self, rendered: Rendered) -> str:
        job = rendered.job
        with TemporaryDirectory(prefix="alignlaunch-") as scratch:
            drift.write(Path(scratch), rendered.files)
            folder, name = Path(scratch), self._script_name(rendered)
            command = submission.array_command(job, folder) if name == ARRAY else submission.command(job, folder)
            answer = submission.test_only(command, folder / name)
        return answer or "no sbatch here: rendered and validated only"

    def handle_prefix(self, job: Job) -> str:
        del job
        return f"{self.scheme}://"

    def submit(self, rendered: Rendered, run: Run, after: Sequence[Run], say: Say) -> Run:
        job, folder = rendered.job, Path(run.run_dir)
        waits = _dependency(job, after)
        command = submission.command(job, folder, waits, preflight_only=rendered.preflight_only)
        runfolder.write_provenance(folder, provenance.describe(job, self.target, rendered.files, command))
        handle = submission.submit(command, folder / SBATCH, rendered.files[SBATCH], say)
        return replace(run, handle=handle, log=str(folder / f"{run.name}-{handle.rpartition('/')[2]}.out"))

    def folder_of_point(self, whole: Path, index: int) -> Path:
        return Path(f"{whole}-{index}")

    def submit_array(
        self,
        array: Rendered,
        whole: Path,
        points: Mapping[int, Rendered],
        runs: Mapping[int, Run],
        after: Sequence[Run],
        say: Say,
    ) -> dict[int, Run]:
        script = array.files[ARRAY]
        indices = submission.indices_of(script, points)
        waits = _dependency(array.job, after)
        command = submission.array_command(array.job, whole, indices, waits, preflight_only=array.preflight_only)
        about = provenance.describe(array.job, self.target, array.files, command)
        runfolder.write_provenance(whole, about | {"name": array.job.family})
        for index, run in runs.items():
            about = provenance.describe(points[index].job, self.target, points[index].files, command)
            runfolder.write_provenance(Path(run.run_dir), about)
        handle = submission.submit(command, whole / ARRAY, script, say)
        log = f"{array.job.family}-{handle.rpartition('/')[2]}"
        return {
            index: replace(run, handle=f"{handle}_{index}", log=str(Path(run.run_dir) / f"{log}_{index}.out"))
            for index, run in runs.items()
        }

    def options_of(self, run: Run) -> dict[str, str]:
        del run
        return {}

    def recover(self, handle: str) -> Run:
        """A run that is not in the record, from `scontrol show job`."""
        cluster, _, job_id = handle.removeprefix(f"{client.SCHEME}://").partition("/")
        if not cluster or not _JOB_ID.fullmatch(job_id):
            raise UsageError(f"{handle}: not a Slurm handle\n    remedy: slurm://CLUSTER/JOBID")
        run = Run(handle, "", run_dir="", log="")
        shown = client.show_job(job_id, self._queried_cluster(run))
        if not shown:
            return run
        job = shown[0]
        if job.is_array and "_" not in job_id:
            raise UsageError(f"{handle}: an array of jobs\n    remedy: name one of them: {handle}_0")
        run = replace(run, name=job.name, log=job.log, submitted_at=job.submitted_at)
        folder = Path(job.command).parent
        if task := job_id.partition("_")[2]:
            folder = self.folder_of_point(folder, int(task))
        if not (folder / provenance.FILE).is_file():
            return run  # not submitted by alignlaunch
        # The folder is not taken from scontrol's StdOut: 22.05 expands a % there that is part of a folder's name.
        return replace(run, run_dir=str(folder), log=str(folder / Path(job.log).name))

    def adopt(self, run: Run) -> Run | None:
        """The job whose script is in the run's folder, or that has started to write its log there."""
        folder = Path(run.run_dir)
        user = folder.stat().st_uid if folder.exists() else os.getuid()  # a colleague's run may have the output folder
        # The log first: it has the id of the first job, though another one may have gone on with the run.
        logs = {path.stem.rpartition("-")[2]: path for path in folder.glob("*-*.out")}
        ids = [*logs]
        ids += [job.id for job in client.jobs_of(user) if _is_of(run, job)]
        if not ids:
            return None
        return replace(
            run,
            handle=f"{client.SCHEME}://{client.here()}/{ids[0]}",
            log=str(logs.get(ids[0], folder / f"{_job_name(run, ids[0])}-{ids[0]}.out")),
            status=Status("PENDING"),
        )

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """One squeue for all runs; then one sacct for those that squeue does not list and whose end is not known.

        squeue is asked for ended runs too: they may be requeued for as long as slurmctld remembers them.
        """
        ids = {run.handle: _job(run) for run in runs}  # once: another job may go on with a run at any moment
        try:
            remembered = _by_id(client.squeue([*ids.values()]))
        except SchedulerError:
            if all(run.status.is_permanent for run in runs):
                return {run.handle: run.status for run in runs}
            raise
        found, unseen = dict[str, Status](), list[Run]()
        for run in runs:
            reported = _of(run, ids[run.handle], remembered) if run.run_dir else None
            if reported:
                found[run.handle] = _status(run, reported)
            elif run.status.is_permanent and (run.run_dir or ids[run.handle] not in remembered):
                found[run.handle] = run.status
            else:
                unseen.append(run)
        for cluster in dict.fromkeys(map(_cluster_of, unseen)):
            of_cluster = [run for run in unseen if _cluster_of(run) == cluster]
            found |= self._statuses_in_cluster(of_cluster, ids, remembered)
        return found

    def _statuses_in_cluster(
        self, runs: list[Run], ids: dict[str, str], remembered: dict[str, list[ReportedJob]]
    ) -> dict[str, Status]:
        """States of runs of one cluster which are not found in `remembered`, the answer of this machine's squeue.

        ids: of the runs' jobs, by their handles.
        """
        try:
            cluster = self._queried_cluster(runs[0])
        except UsageError:
            return {run.handle: replace(run.status, reason=f"not seen from {client.here()}") for run in runs}
        if cluster:
            remembered = _by_id(client.squeue([ids[run.handle] for run in runs], cluster))
        reported = {run.handle: _of(run, ids[run.handle], remembered) for run in runs}
        if forgotten := [run for run in runs if reported[run.handle] is None]:
            # sacct has no SubmitLine yet for a job that has just been submitted. If squeue lists that id, that job is
            # not the run's: squeue shows another script.
            kept = client.sacct([ids[run.handle] for run in forgotten], cluster)
            accounted = _by_id([job for job in kept if job.free_text or job.id not in remembered])
            reported |= {run.handle: _of(run, ids[run.handle], accounted) for run in forgotten}
        return {run.handle: _status(run, reported[run.handle]) for run in runs}

    def require_here(self, run: Run) -> None:
        self._queried_cluster(run)

    def cancel(self, run: Run) -> None:
        cluster = self._queried_cluster(run)
        job_id = _job(run)
        remembered = client.squeue([job_id], cluster)
        if strangers := [job for job in remembered if job.id == job_id and not _is_of(run, job)]:
            raise UsageError(
                f"{run.handle}: this number is another job by now ({strangers[0].free_text}); "
                f"{run.name} has ended\n    nothing was cancelled"
            )
        if remembered:
            client.scancel(job_id, cluster)
            if run.run_dir:
                with suppress(OSError):  # another user's run
                    (Path(run.run_dir) / _CANCELLED).touch()

    def shell(self, run: Run, node: int, command: Sequence[str], *, terminal: bool) -> list[str]:
        if self._queried_cluster(run):
            raise UsageError(f"{run.handle}: no shell from here\n    remedy: on a login node of {_cluster_of(run)}")
        return client.step(_job(run), run.status.nodes, node, command, runfolder.folder_of_job(run), terminal=terminal)

    def _queried_cluster(self, run: Run) -> str:
        """The run's cluster for `client`, "" for this one. Raises UsageError if it cannot be queried from here."""
        cluster = _cluster_of(run)
        if cluster == client.here():
            return ""
        client.require(cluster)
        return cluster


def _job(run: Run) -> str:
    """The id of the job that is the run now."""
    return (runfolder.follower(Path(run.run_dir)) if run.run_dir else "") or run.id


def _job_name(run: Run, job_id: str) -> str:
    """What Slurm calls the run's job: a point as its sweep."""
    return run.pipeline.partition("/")[0] if "_" in job_id else run.name


def _dependency(job: Job, after: Sequence[Run]) -> str:
    """For `--dependency`: these runs must succeed; those of which the job takes the best need only have ended."""
    chosen = {str((job.dir / folder).resolve()) for choice in job.choices for folder in choice.among}
    found: dict[str, list[str]] = {}
    for run in after:
        found.setdefault("afterany" if run.output_dir in chosen else "afterok", []).append(_job(run))
    return ",".join(f"{kind}:{':'.join(ids)}" for kind, ids in found.items())


def _cluster_of(run: Run) -> str:
    return run.handle.removeprefix(f"{client.SCHEME}://").partition("/")[0]


def _by_id(jobs: list[ReportedJob]) -> dict[str, list[ReportedJob]]:
    """The jobs by their ids, so that a thousand runs are found in as many steps."""
    found: dict[str, list[ReportedJob]] = defaultdict(list)
    for job in jobs:
        found[job.id].append(job)
    return dict(found)


def _of(run: Run, job_id: str, jobs: dict[str, list[ReportedJob]]) -> Status | None:
    """The status of this run, which is the job of this id, among the jobs that Slurm reported."""
    return next((job.status for job in jobs.get(job_id, ()) if _is_of(run, job)), None)


def _is_of(run: Run, job: ReportedJob) -> bool:
    """Whether a job with the run's id is the run: only its script is in the run folder.

    The id alone does not tell: another cluster, or this one after its ids were reset, has other jobs of the same ids.
    A name may be changed or used again. (sacct may have no SubmitLine yet for a job that has just been submitted.)
    """
    return not run.run_dir or not job.free_text or f"{_script_folder(run, job.id)}/" in job.free_text


def _script_folder(run: Run, job_id: str) -> str:
    """The folder of the script of a run's job: for a task of an array that of the array."""
    task = job_id.partition("_")[2]
    return run.run_dir.removesuffix(f"-{task}") if task else run.run_dir


def _status(run: Run, reported: Status | None) -> Status:
    """Slurm's status, but with the exit code that the script wrote: that of the task that failed first.

    srun reports the highest code, such as 143 of the tasks that it then ended itself.
    """
    own = runfolder.exit_code(Path(run.run_dir)) if run.run_dir else None
    if reported is None:
        # Slurm keeps nothing of a task of an array that is cancelled before it begins.
        if own is None and run.run_dir and (Path(run.run_dir) / _CANCELLED).exists():
            return Status("CANCELLED")
        return _LOST if own is None else Status("COMPLETED" if own == 0 else "FAILED", own)
    if not reported.is_final or reported.state == "COMPLETED":
        return reported
    if reported.state in _ENDED_BY_SLURM:
        return replace(reported, exit_code=_TERMINATED if reported.nodes else None)
    return replace(reported, exit_code=own or reported.exit_code or None)
