"""What the commands print with `--json`: the shapes of docs/json.md, to which the tests hold what is printed.

A key of a type with `None` is null sometimes, and its meaning says when; one with UNSET is left out unless asked for.
Every other key is always there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from . import shapes_of_jobs as jobs
from .shapes_of_jobs import Shape, is_

Handle = Annotated[str, is_("The run's handle, as every command takes it.")]
Nnodes = Annotated[int, Meta(ge=1)]


class Progress(Shape):
    """How far a run is, from the end of its metrics.jsonl."""

    step: Annotated[int, is_("The last step that was logged.")]
    max_steps: Annotated[int, is_("The step at which it will have ended.")]
    seconds_left: Annotated[float | None, is_("At the speed of the last records. null: not known, or it has ended.")]
    time: Annotated[float, is_("Of the last record, in seconds since 1970.")]
    loss: Annotated[float | None, is_("As logged last. null: none was, or it is no finite number.")]
    tokens_per_second: Annotated[float | None, is_("As logged last, of all processes. null: as `loss`.")]
    mfu: Annotated[float | None, is_("As logged last, from 0 to 1. null: as `loss`.")]


class Elapsed(Shape):
    """How long a run took, or has been going on."""

    seconds: Annotated[float, is_("Until its end, or until now.")]
    since: Annotated[Literal["began", "submitted"], is_("What they are counted from: its first attempt, if known.")]


class Submitted(Shape):
    """A run as it is recorded."""

    handle: Handle
    name: Annotated[str, is_("The job's name.")]
    run_dir: Annotated[str, is_('Its folder of runs/. "": not known, as of a handle that is not in the record.')]
    log: Annotated[str, is_('Its log. "": it has none here, as on Kubernetes.')]
    output_dir: Annotated[str, is_('Where it writes its results; on Kubernetes a path in its pods. "": not known.')]
    job_file: Annotated[str, is_('What it was submitted from. "": not known.')]
    submitted_at: Annotated[str, is_('When, in ISO 8601 with the offset from UTC. "": not known.')]
    pipeline: Annotated[str, is_('NAME/ID, the same for all runs of one pipeline or sweep. "": it is of none.')]
    state: Annotated[str, is_("In Slurm's words in every place: PENDING, RUNNING, COMPLETED, FAILED ...")]
    exit_code: Annotated[int | None, is_("The job's own. null: it has not ended, or nobody knows it.")]
    reason: Annotated[str, is_('As the scheduler gives it. "": it gives none.')]
    nodes: Annotated[str, is_('The names of its nodes, as Slurm writes them. "": none yet, or not known.')]


class Run(Submitted):
    """A run as it is now."""

    progress: Annotated[Progress | None, is_("null: it has not begun to train, or its files are not seen from here.")]
    elapsed: Annotated[Elapsed | None, is_("null: when it began or ended is not known.")]
    nnodes: Annotated[Nnodes | None, is_("How many nodes. null: no run.json in its folder.")]
    nproc_per_node: Annotated[Nnodes | None, is_("Processes of a node. null: as `nnodes`.")]


class Attempt(Shape):
    """One start of a run's processes."""

    start: Annotated[float | None, is_("In seconds since 1970. null: it died before it recorded anything.")]
    end: Annotated[float | None, is_("In seconds since 1970. null: it still runs.")]
    cause: Annotated[str, is_('Why it ended. "": it still runs.')]
    nodes: Annotated[str, is_('The names of its nodes. "": not known.')]
    node: Annotated[str, is_('The name of the node on which it failed first. "": it did not, or that is not known.')]
    steps: Annotated[
        Annotated[list[int], Meta(min_length=2, max_length=2)] | None,
        is_("The step after which it began, and that to which it came. null: it did not train."),
    ]
    then: Annotated[str, is_('What was decided: tried again or not, and without which node. "": nothing was.')]


class Goodput(Shape):
    """Where a run's wall time went, until its last sign of life."""

    begin: Annotated[float, is_("When it was submitted, in seconds since 1970.")]
    end: Annotated[float, is_("Its last sign of life, in seconds since 1970.")]
    seconds: Annotated[dict[str, float], is_("By part: queue, start-up, training ... Their sum is `wall`.")]
    wall: Annotated[float, is_("From `begin` to `end`, in seconds.")]
    goodput: Annotated[float, is_("The share of training whose result was kept, from 0 to 1.")]


_GOODPUT = "null: its output folder is not seen from here."


class Status(Run):
    """A run as it is now, with its attempts."""

    attempts: Annotated[list[Attempt], is_("The oldest first; empty where its folders are not seen from here.")]
    goodput: Annotated[Goodput | UnsetType | None, is_(f"Only with `--goodput`. {_GOODPUT}")] = UNSET


class LogLine(Shape):
    """A line of a log."""

    handle: Handle
    line: Annotated[str, is_("The line as `logs` prints it, without its end.")]
    rank: Annotated[int | None, is_("The process among all, from 0. null: no rank says it.")]
    node: Annotated[int | None, is_("The node's number, from 0. null: not known.")]
    pod: Annotated[str | None, is_("The pod's name. null: it is of none.")]


class Saved(Shape):
    """A checkpoint that was asked for."""

    handle: Handle
    checkpoint: Annotated[str, is_("Its folder, which is complete.")]


class Diagnosis(Shape):
    """Why a run failed."""

    handle: Annotated[str, is_("The run's handle; of logs that were named by their folder, its path.")]
    verdict: Annotated[
        str, is_("The name of a known fault ([diagnose.md](diagnose.md)), or unknown, completed, going, no-failure.")
    ]
    cause: Annotated[str, is_("In a sentence.")]
    remedy: Annotated[str, is_('What to do. "": nothing, or not known.')]
    retry: Annotated[
        Literal["again", "elsewhere", "never"] | None,
        is_("Whether another attempt may do better, on other nodes. null: the cause is not known, or it did not fail."),
    ]
    where: Annotated[str, is_('The node, pod or task that failed first. "": not known.')]
    first: Annotated[str, is_('Which rank failed first, and how. "": none, or not known.')]
    evidence: Annotated[list[str], is_("FILE:LINE: what it says.")]
    traceback: Annotated[list[str], is_("Its last lines.")]
    followed: Annotated[list[str], is_("Which ranks ended after it, and how.")]
    notes: Annotated[list[str], is_("What else is worth knowing.")]


class Point(Shape):
    """A value of a metric."""

    step: Annotated[int, is_("After which step.")]
    value: Annotated[float | None, is_("null: it is no finite number.")]


class Metric(Shape):
    """A metric of a run."""

    count: Annotated[int, is_("Of its records.")]
    last: Annotated[Point, is_("The last one.")]
    best: Annotated[Point | None, is_("The best of all records. null: its name does not tell which way is good.")]


class Compared(Shape):
    """A run beside others."""

    name: Annotated[str, is_("The job's name; of a trained folder, its name.")]
    handle: Annotated[str, is_("The run's handle; of a trained folder, its path.")]
    state: Annotated[str, is_('As of `list`. "": a trained folder has none.')]
    folder: Annotated[str | None, is_("Where its results lie. null: not seen from here.")]
    job: Annotated[dict[str, str | None], is_("The keys that differ, as text. null: this job has no such key.")]
    step: Annotated[int | None, is_("The last step that was logged. null: none was.")]
    max_steps: Annotated[int | None, is_("The step at which it will have ended. null: as `step`.")]
    metrics: Annotated[dict[str, Metric], is_("By name, all but those below.")]
    tokens_per_second: Annotated[float | None, is_("The median of its records, of all processes. null: none was.")]
    samples_per_second: Annotated[float | None, is_("As `tokens_per_second`.")]
    mfu: Annotated[float | None, is_("As `tokens_per_second`, from 0 to 1.")]
    memory_peak_gib: Annotated[float | None, is_("The most that was recorded, of a GPU, in GiB. null: none was.")]
    goodput: Annotated[Goodput | None, is_(_GOODPUT)]
    notes: Annotated[list[str], is_("What is missing or odd.")]


class BadNode(Shape):
    """A node that submissions leave out."""

    node: Annotated[str, is_("Its name.")]
    cause: Annotated[str, is_("Why.")]
    run: Annotated[str, is_('The name of the folder in runs/ of the run that found it. "": a person noted it.')]
    time: Annotated[float, is_("When it was noted, in seconds since 1970.")]
    until: Annotated[float, is_("When it is used again, in seconds since 1970.")]


class OldRun(Shape):
    """A run's folder that may go."""

    folder: Annotated[str, is_("Its path.")]
    name: Annotated[str, is_("The job's name; of an array, the folder's.")]
    size: Annotated[int, is_("In bytes.")]
    age: Annotated[float, is_("Seconds since something was written there.")]


class Profile(Shape):
    """A cluster profile."""

    name: Annotated[str, is_("As `--cluster` takes it.")]
    path: Annotated[str, is_("Its file.")]


class Rendered(Shape):
    """A folder that was written."""

    name: Annotated[str, is_("The job's name; of a sweep's array, the sweep's.")]
    target: Annotated[Literal["bash", "slurm", "k8s"], is_("What its files are for.")]
    folder: Annotated[str, is_("Its path.")]


class Checked(Shape):
    """A folder that was rendered again."""

    folder: Annotated[str, is_("Its path.")]
    drift: Annotated[str, is_('What changed, as `check` prints it. "": nothing, or it could not be checked.')]
    error: Annotated[str, is_('Why it could not be checked. "": it was.')]


#: Command → what it prints.
PRINTED: dict[str, Any] = {
    **dict.fromkeys(("list", "cancel", "wait"), list[Run]),
    "status": list[Status],
    **dict.fromkeys(("slurm", "k8s", "local", "sweep", "retry"), list[Submitted]),
    "logs": LogLine,
    "describe": list[jobs.Description],
    "diagnose": list[Diagnosis],
    "save": list[Saved],
    "compare": list[Compared],
    "render": list[Rendered],
    "check": list[Checked],
    "gc": list[OldRun],
    "nodes": list[BadNode],
    "profiles": list[Profile],
    "plan": jobs.Plan | list[jobs.Plan],
    "data": jobs.ShownData,
    "eval": jobs.Evaluation,
}
