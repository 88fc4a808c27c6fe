"""A sweep on Slurm: the script of its array, whose tasks run the scripts of its points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import UsageError
from ..job.job import Job
from . import origin, render
from .render import LOCK, SBATCH

ARRAY = "array.sbatch"


def files(points: Sequence[Job], step: str | None, job_path: str) -> dict[str, str]:
    """The files of `launch/<sweep>/slurm/`, beside the folders of its points. Raises UsageError.

    step: its name in a pipeline; None: the sweep is a file of its own. job_path: path of the job file relative to that
    folder.
    """
    first = points[0]
    _require_alike(points)
    digest = render.digest(json.dumps([one.digest for one in points]))
    text = render.template(
        f"slurm/{ARRAY}.j2",
        first,
        origin=origin.line(first.path.name, digest),
        sweep=first.family,
        folder=f"launch/{first.family}/slurm",
        points=[one.point.label for one in points if one.point],
        max_parallel=first.point.most if first.point else None,
        exported=render.exported(first),
    )
    lock: dict[str, Any] = json.loads(render.lock(first, "slurm", job_path, {ARRAY: text}))
    lock["job"]["sha256"] = digest
    lock["pipeline"]["step"] = step
    return {ARRAY: text, LOCK: json.dumps(lock, indent=2, ensure_ascii=False) + "\n"}


def _require_alike(points: Sequence[Job]) -> None:
    """Raise UsageError unless all points ask Slurm for the same: an array has one set of options."""
    asked = {one.spec.name: _options(one) for one in points}
    name, others = next(iter(asked.items()))
    for point, options in asked.items():
        if options != others:
            listed = "\n".join(f"    {who}: {line}" for who, line in _only(name, others, point, options))
            raise UsageError(
                f"{points[0].path}: sweep: its points ask Slurm for different things, which an array cannot\n{listed}\n"
                "    remedy: a sweep for each, or sweep over what the job learns"
            )


def _only(one: str, its: list[str], other: str, others: list[str]) -> list[tuple[str, str]]:
    return [(one, line) for line in its if line not in others] + [(other, line) for line in others if line not in its]


def _options(job: Job) -> list[str]:
    lines = render.render(job, "slurm", "")[SBATCH].splitlines()
    return [line for line in lines if line.startswith("#SBATCH ") and not line.startswith("#SBATCH --job-name=")]
