"""Texts for people: a job in a few lines, runs and metrics as tables."""

from __future__ import annotations

from datetime import datetime
from time import time
from typing import TYPE_CHECKING, Any

from .. import tables
from ..job.job import Job
from ..job.pipeline import Pipeline
from ..runs.records import Run

if TYPE_CHECKING:
    from ..watch.overview import Overview


def of(pipeline: Pipeline) -> list[str]:
    """What is about to be run: each job, and of a sweep the first point and what the others change."""
    found: list[str] = []
    for step, job in pipeline.jobs.items():
        points = next((points for points in pipeline.sweeps.values() if step in points), [step])
        if step == points[0]:
            found += lines(job)
            found += _points([pipeline.jobs[point] for point in points]) if job.point else []
    return found


def _points(jobs: list[Job]) -> list[str]:
    points = [job.point for job in jobs if job.point]
    most = f", at most {points[0].most} at once" if points[0].most else ""
    width = max(len(point.changes) for point in points)
    rows = []
    for index, point in enumerate(points):
        changes = [f"{key}={value}" for key, value in point.changes.items()]
        rows.append((str(index), point.label, *changes, *[""] * (width - len(changes))))
    return [f"sweep {points[0].sweep}: {len(points)} points{most}", *tables.aligned(rows).splitlines()]


def lines(job: Job) -> list[str]:
    """A job's notes (renamed keys, defaults of its stage) and its key figures, such as the batch size."""
    spec = job.spec
    zero = f"ZeRO-{job.zero.stage} ({job.zero.file_name})" if job.zero else "DDP"
    tuned = f"LoRA r={spec.lora.r}" if spec.lora else "every weight"
    data = f", at most {spec.data.max_train_samples} examples" if spec.data.max_train_samples else ""
    nodes = f"{job.elastic[0]} to {job.elastic[1]}" if job.elastic else job.nnodes
    most = "at most " if job.elastic else ""
    return [
        *(f"note: {note}" for note in job.notes),
        f"{spec.name}: {spec.stage}, {tuned}, {zero}{data}",
        *(f"other than committed: {line}" for line in job.varies),
        f"processes: {nodes} nodes x {spec.nproc_per_node} = {most}{job.world_size}",
        f"effective batch size: {job.per_device_batch_size} per device x {job.world_size} processes"
        f" x {job.accumulation_steps} accumulation = {job.effective_batch_size}",
    ]


def table(runs: list[Run], *, outputs: bool = False) -> list[tuple[str, ...]]:
    """A line for each run, after one with the names of the columns. outputs: also the output folders."""
    from ..watch import overview, progress

    names = ("RUN", "NAME", "STATE", "EXIT", "STEP", "LEFT", "SUBMITTED", "NODES, REASON", "ELAPSED", "GPUS", "OUTPUT")
    rows: list[tuple[str, ...]] = [names]
    now = time()
    for run in runs:
        one = overview.of(run, now)
        reached, status = one.reached, run.status
        left = progress.shown(reached.seconds_left) if reached and reached.seconds_left is not None else ""
        code = "" if status.exit_code is None else str(status.exit_code)
        where = " ".join(part for part in (status.nodes, f"({status.reason})" if status.reason else "") if part)
        cells = (run.handle, run.name, status.state, code, str(reached or ""), left, submitted(run), where)
        rows.append((*cells, elapsed(one), gpus(one), run.output_dir))
    return rows if outputs else [row[:-1] for row in rows]


def elapsed(one: Overview) -> str:
    """How long a run has taken, marked where that is since its submission."""
    from ..watch import progress

    if one.elapsed is None:
        return ""
    return progress.shown(one.elapsed) + ("" if one.since == "began" else " (submitted)")


def gpus(one: Overview) -> str:
    """Nodes and processes of each."""
    return f"{one.nnodes}x{one.nproc_per_node}" if one.gpus else ""


def submitted(run: Run) -> str:
    """When a run was submitted, in this machine's time."""
    return f"{run.submitted:%Y-%m-%d %H:%M:%S}" if run.submitted else run.submitted_at


def description(run: Run, made_from: dict[str, Any]) -> str:
    """What a run was made from, one part a line. made_from: its run.json, which may lack any part."""

    def part(key: str) -> str:
        value = made_from.get(key)
        return " ".join(map(str, value)) if isinstance(value, list) else str("not known" if value is None else value)

    pipeline = made_from.get("pipeline")
    changed = ", with changes that are not committed" if made_from.get("git_dirty") else ""
    files = made_from.get("artifacts")
    rows = [
        ("run", f"{run.handle} ({run.name})"),
        ("stage", f"{part('stage')}, {part('nnodes')} nodes x {part('nproc_per_node')} processes ({part('launcher')})"),
        ("job", f"{part('job_file')} (what it says: sha256 {part('job_sha256')})"),
        *([("pipeline", f"step {pipeline['step']} of {pipeline['path']}")] if pipeline else []),
        *([("set", part("set"))] if made_from.get("set") else []),
        *(("varies", line) for line in made_from.get("varies") or ()),
        *([("cluster", part("cluster"))] if made_from.get("cluster") else []),
        ("commit", f"{part('git_commit')}{changed}"),
        ("submitted", f"{submitted(run)} by {part('user')} on {part('host')}, with alignlaunch {part('alignlaunch')}"),
        ("by", part("command_line")),
        ("as", part("submit_command")),
        ("python", f"{part('python')} ({part('python_version')})"),
        ("folder", run.run_dir),
        ("output", run.output_dir),
        *(("ran", f"{name} sha256 {digest}") for name, digest in (files.items() if isinstance(files, dict) else ())),
    ]
    return tables.aligned(rows)


def attempts(run: Run) -> str:
    """One line per attempt of a run: when it was, how it ended, where, its steps, and what was decided then."""
    from ..retry import history

    found = history.read(run)
    if not found:
        return ""
    rows = [("ATTEMPT", "START", "END", "CAUSE", "NODES", "STEPS", "THEN")]
    for number, one in enumerate(found, start=1):
        times = (_clock(one.start, "?"), _clock(one.end, ""))
        cause = f"{one.cause} ({one.node})" if one.node else one.cause
        steps = f"{one.steps[0]} to {one.steps[1]}" if one.steps else ""
        rows.append((str(number), *times, cause, one.nodes, steps, one.then))
    return tables.aligned(rows)


def goodput(run: Run) -> str:
    """Where the wall time of a run went."""
    from ..retry import history
    from ..watch import progress

    found = history.goodput(run)
    if found is None:
        return f"{run.name}: goodput is not known: no record of its phases is seen from here"
    wall = f"{progress.shown(found.wall)}, until {_clock(found.end, '')}"
    rows = [("PART", "TIME", "SHARE")]
    rows += [(part, progress.shown(span), f"{100 * found.share(part):.1f} %") for part, span in found.seconds.items()]
    return f"{run.name}: goodput {100 * found.goodput:.1f} % of {wall}\n{tables.aligned(rows)}"


def _clock(time: float | None, unknown: str) -> str:
    return datetime.fromtimestamp(time).astimezone().isoformat(" ", "seconds") if time is not None else unknown


def metrics(evaluation: dict[str, Any]) -> str:
    """One line per metric of an eval.json."""
    found: dict[str, Any] = evaluation["metrics"]
    width = max(map(len, found), default=0)
    return "\n".join(
        f"{name.ljust(width)}  {value:.6g}" if isinstance(value, float) else f"{name.ljust(width)}  {value}"
        for name, value in found.items()
    )
