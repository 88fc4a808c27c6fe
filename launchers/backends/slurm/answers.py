"""Parsers of what Slurm's commands print. No command is run here.

tests/slurm/test_answers.py checks them against recorded output of 22.05, 24.11 and 26.05.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...errors import SchedulerError
from ...runs.records import FINAL, Status

#: Fields of free text (names, paths). They may contain the separator `|`, so a query can ask for only one of them.
_FREE_TEXT = ("Name", "JobName", "Command", "SubmitLine")
#: The error of squeue and scontrol for a job that slurmctld has forgotten, or never knew.
NO_SUCH_JOB = "Invalid job id specified"
#: The error of sacct on a cluster without accounting.
NO_ACCOUNTS = "accounting storage is disabled"
_COMPOSITE_CODE = re.compile(r"(\d+):(\d+)")


class ReportedJob(NamedTuple):
    """A job as squeue or sacct reports it. free_text: of the one such field that was queried."""

    id: str
    free_text: str
    status: Status


def squeue(text: str, fields: Sequence[str]) -> list[ReportedJob]:
    """The jobs in an answer to `squeue --noheader --Format=A:|,B:|`: each field padded, then a `|`."""
    return [_reported(row) for row in _rows("squeue", text, fields, end="|")]


def sacct(text: str, fields: Sequence[str]) -> list[ReportedJob]:
    """The jobs in an answer to `sacct --noheader --parsable2 --allocations --format=A,B`."""
    return [_reported(row, accounts=True) for row in _rows("sacct", text, fields)]


def _rows(command: str, text: str, fields: Sequence[str], end: str = "") -> Iterator[dict[str, str]]:
    """{field: text} of each line. Raises SchedulerError for a line without these fields."""
    (free,) = (i for i, name in enumerate(fields) if name in _FREE_TEXT)
    behind = len(fields) - free - 1
    for line in text.splitlines():
        if not line.strip() or line.startswith("CLUSTER: "):  # the heading that --clusters adds
            continue
        parts = line.removesuffix(end).split("|")
        if len(parts) < len(fields) or not line.endswith(end):
            raise _unreadable(command, line)
        middle = "|".join(parts[free : len(parts) - behind])
        values = [*parts[:free], middle, *parts[len(parts) - behind :]]
        row = dict(zip(fields, map(str.strip, values), strict=True))
        try:
            _exit_code(row)
        except ValueError as error:
            raise _unreadable(command, line) from error
        if not row["State"]:
            raise _unreadable(command, line)
        yield row


def _unreadable(command: str, line: str) -> SchedulerError:
    return SchedulerError(
        f"{command} answered what alignlaunch cannot read: {' '.join(line.split())!r}\n"
        f"    remedy: report it with the output of `{command} --version`"
    )


def _reported(row: dict[str, str], *, accounts: bool = False) -> ReportedJob:
    job_id = next(row[name] for name in ("JobArrayID", "JobID", "JobIDRaw") if name in row)
    free_text = next(row[name] for name in _FREE_TEXT if name in row)
    state = row["State"].split()[0].rstrip("+")  # "CANCELLED by 1000"
    code = _exit_code(row)
    nodes = row["NodeList"] if row["NodeList"] != "None assigned" else ""
    # sacct goes on reporting why a job was once pending; that means nothing once the job has nodes.
    reason = "" if row["Reason"] == "None" or (accounts and nodes) else row["Reason"]
    return ReportedJob(job_id, free_text, Status(state, code if state in FINAL else None, reason, nodes))


def _exit_code(row: dict[str, str]) -> int:
    return exit_code(next(row[name] for name in ("exit_code", "ExitCode") if name in row))


def exit_code(text: str) -> int:
    """A shell's exit code, 128 + N for signal N, from `EXIT:SIGNAL` or (squeue up to 22.05) a wait status.

    Raises ValueError for anything else.
    """
    if match := _COMPOSITE_CODE.fullmatch(text):
        code, signal = int(match[1]), int(match[2])
    else:
        code, signal = int(text) >> 8 & 0xFF, int(text) & 0x7F
    return 128 + signal if signal else code


class ShownJob(NamedTuple):
    """A job as `scontrol show job` reports it. command (the script) and log: paths, or ""."""

    name: str
    command: str
    log: str
    submitted_at: str
    is_array: bool


def shown_jobs(text: str) -> list[ShownJob]:
    """The jobs in an answer to `scontrol show job ID`: for an array there may be several."""
    return [_shown(block) for block in re.split(r"^(?=JobId=)", text, flags=re.MULTILINE) if block.startswith("JobId=")]


def _shown(block: str) -> ShownJob:
    def value(pattern: str) -> str:
        match = re.search(pattern, block, re.MULTILINE)
        return match[1] if match and match[1] != "(null)" else ""

    return ShownJob(
        name=value(r"^JobId=.*? JobName=(.*)$"),
        command=value(r"^ +Command=(.*)$"),
        log=value(r"^ +StdOut=(.*)$"),
        submitted_at=value(r"^ +SubmitTime=(\S+)"),
        is_array="ArrayJobId=" in block,
    )


def cluster_name(text: str) -> str:
    """The cluster's name in an answer to `scontrol show config`; "" if there is none."""
    match = re.search(r"^ClusterName\s*=\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else ""


class Submitted(NamedTuple):
    """sbatch's answer to an accepted script. cluster: "" if it names none; messages: all other lines it printed."""

    job_id: str
    cluster: str
    messages: str


def submitted(text: str) -> Submitted | None:
    """sbatch's answer, parsed; None if it names no job."""
    match = re.search(r"^Submitted batch job (\d+)(?: on cluster (\S+))?\s*$", text, re.MULTILINE)
    if not match:
        return None
    messages = f"{text[: match.start()]}{text[match.end() :]}"
    return Submitted(match[1], match[2] or "", "\n".join(line for line in messages.splitlines() if line.strip()))


class Nodes(NamedTuple):
    """Nodes of one kind in a partition, as `sinfo --exact --format=%P|%l|%D|%c|%G` lists them.

    limit: the partition's time limit as Slurm writes it. gpus: type → number in one node, "" for GPUs without a type.
    """

    partition: str
    is_default: bool
    limit: str
    number: int
    cpus: int
    gpus: dict[str, int]


def sinfo(text: str) -> list[Nodes]:
    """The kinds of nodes in an answer; other lines are ignored."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"([^|]+)\|([^|]+)\|(\d{1,9})\|(\d{1,9})\+?\|([^|]*)", line.strip())
        if match:
            partition, limit, number, cpus, gres = match.groups()
            gpus: dict[str, int] = {}
            for kind, gpus_of_kind in re.findall(r"\bgpu:(?:([^:,()]+):)?(\d{1,9})\b", gres):
                gpus[kind] = gpus.get(kind, 0) + int(gpus_of_kind)
            name = partition.removesuffix("*")
            found.append(Nodes(name, name != partition, limit, int(number), int(cpus), gpus))
    return found
