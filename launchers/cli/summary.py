"""Texts for people: a job in a few lines, runs and metrics as tables."""

from __future__ import annotations

from typing import Any

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
    """One line per run: handle, name, state, exit code, time of submission, nodes and reason."""
    if not runs:
        return "no runs are recorded"
    rows = [("RUN", "NAME", "STATE", "EXIT", "SUBMITTED", "NODES, REASON")]
    for run in runs:
        status = run.status
        code = "" if status.exit_code is None else str(status.exit_code)
        where = " ".join(part for part in (status.nodes, f"({status.reason})" if status.reason else "") if part)
        rows.append((run.handle, run.name, status.state, code, run.submitted_at[:19], where))
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
