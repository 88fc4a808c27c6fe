"""After a GPU ran out of memory: what `alignlaunch plan` would change in this very job."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import LaunchError
from ..job.job import Job
from ..job.pipeline import load
from ..planner import memory, plan, strategies
from ..planner.architecture.model import UnknownModelError
from ..planner.memory import GIB
from ..planner.strategies import OVERHEAD, Limits

_CAPACITY = re.compile(r"total capac(?:i)?ty of ([\d.]+) GiB|([\d.]+) GiB total capacity")


def advice(made_from: dict[str, Any], evidence: Iterable[str]) -> list[str]:
    """The planner's words on a job that did not fit. made_from: its run.json; evidence: the lines that say so."""
    try:
        job = _job(made_from)
        if job is None:
            return []
        planned = plan.of(job, gpu_gib=_capacity(evidence))
    except (LaunchError, UnknownModelError, OSError) as error:
        return [f"plan: not made ({str(error).splitlines()[0]})"]
    setup, limits = planned.setup, planned.limits
    needed = memory.peak(setup).total + OVERHEAD
    if limits.gpu is None:
        return [
            "plan: not made: the log does not say how large the GPU is (`gpu_memory_gib` in the cluster profile does)"
        ]
    says = f"plan: {strategies.name(setup)} takes about {needed / GIB:.1f} GiB of {limits.gpu / GIB:.1f}"
    # It did not fit, whatever was planned: only what takes less than the job as it stands is a remedy.
    others = strategies.remedies(setup, Limits(min(limits.gpu, needed - 1), limits.host))
    return [says, *(f"plan: {strategies.sets(setup, other)}" for other in others)] if others else [says, _NOTHING]


_NOTHING = "plan: no strategy takes less on these GPUs: more GPUs, or shorter sequences (train.max_length)"


def _job(made_from: dict[str, Any]) -> Job | None:
    """The job of a run, as its job file has it now; None where there is none, or it says something else by now."""
    pipeline: dict[str, Any] = made_from.get("pipeline") or {}
    path = Path(pipeline.get("path") or made_from.get("job_file") or "")
    if not path.is_file():
        return None
    jobs = load(path, tuple(made_from.get("set") or ()), made_from.get("cluster")).jobs
    job = jobs.get(pipeline["step"]) if pipeline else next(iter(jobs.values()))
    return job if job and job.digest == made_from.get("job_sha256") else None


def _capacity(evidence: Iterable[str]) -> float | None:
    """GiB of the GPU, as torch's message has it."""
    matches = filter(None, map(_CAPACITY.search, evidence))
    return next((float(match[1] or match[2]) for match in matches), None)
