"""Texts for people: a job in a few lines, runs and metrics as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import printable
from ..job.job import Job
from ..runs.records import Run


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
        f"processes: {nodes} nodes x {spec.nproc_per_node} = {most}{job.world_size}",
        f"effective batch size: {job.per_device_batch_size} per device x {job.world_size} processes"
        f" x {job.accumulation_steps} accumulation = {job.effective_batch_size}",
    ]


def table(runs: list[Run]) -> str:
    """One line per run: handle, name, state, exit code, step, time left, time of submission, nodes and reason."""
    from ..watch import progress

    if not runs:
        return "no runs are recorded"
    rows = [("RUN", "NAME", "STATE", "EXIT", "STEP", "LEFT", "SUBMITTED", "NODES, REASON")]
    for run in runs:
        status = run.status
        reached = progress.read(run)
        left = progress.shown(reached.seconds_left) if reached and reached.seconds_left is not None else ""
        code = "" if status.exit_code is None else str(status.exit_code)
        where = " ".join(part for part in (status.nodes, f"({status.reason})" if status.reason else "") if part)
        step = str(reached or "")
        rows.append((run.handle, run.name, status.state, code, step, left, run.submitted_at[:19], where))
    return _aligned(rows)


def attempts(run: Run) -> str:
    """One line per attempt of a run: when it began to train, and its steps; "" for a run of a single attempt."""
    from ..watch import progress

    found = progress.attempts(run)
    if len(found) < 2:
        return ""
    rows = [("ATTEMPT", "BEGAN", "STEPS")]
    for number, one in enumerate(found, start=1):
        rows.append((str(number), one.began.isoformat(" ", "seconds"), f"{one.first} to {one.last}"))
    return _aligned(rows)


def failures(run: Run) -> str:
    """One line per attempt of a run that failed: when, why, where, at which checkpoint, and what was decided."""
    from ..retry import attempts as record

    found = record.read(Path(run.run_dir)) if run.run_dir else []
    if not found:
        return ""
    rows = [("FAILED", "CAUSE", "NODE", "STEP", "TRIED AGAIN")]
    for one in found:
        began = datetime.fromtimestamp(one.time).astimezone().isoformat(" ", "seconds")
        step = "none" if one.ended.step < 0 else str(one.ended.step)
        again = "yes" if one.decision.again else "no"
        then = f"{again}, without {one.decision.without}" if one.decision.without else again
        rows.append((began, one.ended.cause, one.ended.node or "?", step, then))
    return _aligned(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    rows = [tuple(printable(" ".join(cell.split())) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def metrics(evaluation: dict[str, Any]) -> str:
    """One line per metric of an eval.json."""
    found: dict[str, Any] = evaluation["metrics"]
    width = max(map(len, found), default=0)
    return "\n".join(
        f"{name.ljust(width)}  {value:.6g}" if isinstance(value, float) else f"{name.ljust(width)}  {value}"
        for name, value in found.items()
    )
