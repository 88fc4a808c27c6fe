"""Run Slurm's commands and parse their output. cluster: "" is this machine's; another one is found through slurmdbd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from ...errors import SchedulerError, UsageError
from .. import shell
from . import answers
from .answers import Nodes, ReportedJob, ShownJob

SCHEME = "slurm"
_SQUEUE_FIELDS = ("JobArrayID", "State", "Reason", "exit_code", "NodeList", "Command")
_SACCT_FIELDS = ("JobID", "State", "ExitCode", "Reason", "NodeList", "SubmitLine")
SINFO = ("sinfo", "--noheader", "--exact", "--format=%P|%l|%D|%c|%G")
#: Variables with which a user may change how Slurm's commands filter, sort and print, or which cluster they query.
_USER_SETTINGS = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")


def squeue(job_ids: Sequence[str], cluster: str = "") -> list[ReportedJob]:
    """The jobs that slurmctld remembers: pending, running, or ended minutes ago. Their free text: the script's path."""
    done = _ask(squeue_command(job_ids), cluster)
    if done.returncode and answers.NO_SUCH_JOB not in done.stderr:  # a single job that slurmctld has forgotten
        raise unreachable(done.stderr)
    return answers.squeue(done.stdout, _SQUEUE_FIELDS)


def jobs_of(user: int) -> list[ReportedJob]:
    """All jobs of a user (by uid) that slurmctld remembers and shows. Their free text: the script's path."""
    done = _ask(["squeue", *_squeue_options(f"--user={user}")], "")
    if done.returncode:
        raise unreachable(done.stderr)
    return answers.squeue(done.stdout, _SQUEUE_FIELDS)


def squeue_command(job_ids: Sequence[str]) -> list[str]:
    return ["squeue", *_squeue_options(f"--jobs={','.join(job_ids)}")]


def _squeue_options(which: str) -> list[str]:
    fields = ",".join(f"{name}:|" for name in _SQUEUE_FIELDS)
    return ["--noheader", "--array", "--states=all", which, f"--Format={fields}"]


def sacct(job_ids: Sequence[str], cluster: str = "") -> list[ReportedJob]:
    """The jobs that accounting knows; none without accounting. Their free text: the submitting command line."""
    done = _ask(sacct_command(job_ids), cluster)
    if done.returncode:
        if answers.NO_ACCOUNTS in done.stderr:
            return []
        raise unreachable(done.stderr)
    return answers.sacct(done.stdout, _SACCT_FIELDS)


def sacct_command(job_ids: Sequence[str]) -> list[str]:
    jobs = f"--jobs={','.join(job_ids)}"
    return ["sacct", "--noheader", "--parsable2", "--allocations", jobs, f"--format={','.join(_SACCT_FIELDS)}"]


def show_job(job_id: str, cluster: str = "") -> list[ShownJob]:
    """The job as `scontrol show job` reports it, for an array several; none if slurmctld has forgotten it."""
    return answers.shown_jobs(_ask(["scontrol", "show", "job", job_id], cluster).stdout)


def scancel(job_id: str, cluster: str = "") -> None:
    done = _ask(["scancel", job_id], cluster)
    if done.returncode:
        raise unreachable(done.stderr)


def step(job_id: str, nodelist: str, node: int, command: Sequence[str], folder: str, *, terminal: bool) -> list[str]:
    """srun's command line for one more task in a job, beside its own, on one of its nodes (counted from 0).

    Raises SchedulerError if Slurm does not say which nodes these are.
    """
    names = _ask(["scontrol", "show", "hostnames", nodelist]).stdout.split()
    number = _ask(["squeue", "--noheader", f"--jobs={job_id}", "--format=%A"])  # srun knows no ARRAY_TASK
    if node >= len(names) or not number.stdout.strip():
        raise unreachable(number.stderr or f"job {job_id} has no node {node} ({nodelist})")
    # --overlap: the job's own step holds all that it has.
    where = [f"--jobid={number.stdout.strip()}", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={names[node]}"]
    return [*("srun", *where), *([f"--chdir={folder}"] if folder else []), *(["--pty"] if terminal else []), *command]


def here() -> str:
    """Slurm's name of this machine's cluster. Raises SchedulerError if the controller is down."""
    done = _ask(["scontrol", "show", "config"])
    name = answers.cluster_name(done.stdout)
    if done.returncode or not name:
        raise unreachable(done.stderr)
    return name


def require(cluster: str) -> None:
    """Raise UsageError unless another cluster can be queried from here."""
    if _ask(["squeue", "--noheader", "--me"], cluster).returncode:
        remedy = f"ask on a login node of {cluster}"
        raise UsageError(f"cluster {cluster} cannot be asked from here; this is {here()}\n    remedy: {remedy}")


def unreachable(words: str) -> SchedulerError:
    return SchedulerError(
        f"{words.strip() or 'Slurm does not answer'}\n    remedy: is slurmctld up? try `scontrol ping`"
    )


def _ask(
    command: Sequence[str], cluster: str = "", seconds: float = shell.TIMEOUT_SECONDS
) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(_USER_SETTINGS)}
    name, *arguments = command
    return shell.run([name, *([f"--clusters={cluster}"] if cluster else []), *arguments], env, seconds)


def sinfo() -> list[Nodes]:
    """The kinds of nodes of every partition; none if sinfo fails."""
    return answers.sinfo(_ask(SINFO).stdout)


def partitions(seconds: float) -> list[Nodes]:
    """As `sinfo`. Raises SchedulerError if it fails, gives no answer in this time, or one that cannot be read."""
    done = _ask(SINFO, seconds=seconds)
    found = answers.sinfo(done.stdout)
    if done.returncode or (done.stdout.strip() and not found):
        words = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise unreachable(words if words.startswith("sinfo") else f"sinfo: {words}")
    return found
