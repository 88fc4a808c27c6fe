"""Slurm's commands, run and read. An empty `cluster` is this machine's own; another one is asked over slurmdbd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from .. import shell
from ..errors import SchedulerError, UsageError
from . import answers
from .answers import Nodes, ShownJob, Told

_SQUEUE_FIELDS = ("JobArrayID", "State", "Reason", "exit_code", "NodeList", "Command")
_SACCT_FIELDS = ("JobID", "State", "ExitCode", "Reason", "NodeList", "SubmitLine")
#: Variables by which a user has Slurm's commands filter, sort or print otherwise, or ask another cluster.
_USERS_TASTE = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")


def squeue(job_ids: Sequence[str], cluster: str = "") -> list[Told]:
    """The jobs that slurmctld remembers: waiting, running, and ended in the last minutes. Told.words: the script."""
    fields = ",".join(f"{name}:|" for name in _SQUEUE_FIELDS)
    done = _ask(
        "squeue", cluster, "--noheader", "--array", "--states=all", f"--jobs={','.join(job_ids)}", f"--Format={fields}"
    )
    if done.returncode and answers.NO_SUCH_JOB not in done.stderr:  # said when the only job asked for is forgotten
        raise unreachable(done.stderr)
    return answers.squeue(done.stdout, _SQUEUE_FIELDS)


def own_jobs() -> list[Told]:
    """All jobs of this user that slurmctld remembers. Told.words: the script."""
    fields = ",".join(f"{name}:|" for name in _SQUEUE_FIELDS)
    done = _ask("squeue", "", "--noheader", "--array", "--states=all", "--me", f"--Format={fields}")
    if done.returncode:
        raise unreachable(done.stderr)
    return answers.squeue(done.stdout, _SQUEUE_FIELDS)


def sacct(job_ids: Sequence[str], cluster: str = "") -> list[Told]:
    """The jobs that the accounting knows; none where it is off. Told.words: the command line that submitted."""
    fields = ",".join(_SACCT_FIELDS)
    done = _ask(
        "sacct",
        cluster,
        "--noheader",
        "--parsable2",
        "--allocations",
        f"--jobs={','.join(job_ids)}",
        f"--format={fields}",
    )
    if done.returncode:
        if answers.NO_ACCOUNTS in done.stderr:
            return []
        raise unreachable(done.stderr)
    return answers.sacct(done.stdout, _SACCT_FIELDS)


def show_job(job_id: str, cluster: str = "") -> list[ShownJob]:
    """The job as `scontrol show job` has it, of an array several; none where slurmctld has forgotten it."""
    return answers.shown_jobs(_ask("scontrol", cluster, "show", "job", job_id).stdout)


def scancel(job_id: str, cluster: str = "") -> None:
    done = _ask("scancel", cluster, job_id)
    if done.returncode:
        raise unreachable(done.stderr)


def here() -> str:
    """Slurm's own name of this machine's cluster. Raises SchedulerError if the controller is down."""
    done = _ask("scontrol", "", "show", "config")
    name = answers.cluster_name(done.stdout)
    if done.returncode or not name:
        raise unreachable(done.stderr)
    return name


def require(cluster: str) -> None:
    """Raise UsageError unless another cluster can be asked from here."""
    if _ask("squeue", cluster, "--noheader", "--me").returncode:
        remedy = f"ask on a login node of {cluster}"
        raise UsageError(f"cluster {cluster} cannot be asked from here; this is {here()}\n    remedy: {remedy}")


def unreachable(words: str) -> SchedulerError:
    return SchedulerError(
        f"{words.strip() or 'Slurm does not answer'}\n    remedy: is slurmctld up? try `scontrol ping`"
    )


def _ask(command: str, cluster: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(_USERS_TASTE)}
    return shell.run([command, *([f"--clusters={cluster}"] if cluster else []), *arguments], env)


def sinfo() -> list[Nodes]:
    """The kinds of nodes of every partition; none where Slurm does not tell."""
    return answers.sinfo(_ask("sinfo", "", "--noheader", "--exact", "--format=%P|%l|%D|%c|%G").stdout)
