"""After a GPU ran out of memory: which changes to the job `alignlaunch plan` proposes."""

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
    """The planner's remedies for a job that did not fit, as lines of text.

    made_from: its run.json. evidence: the log's lines about the failure, which may tell the GPU's capacity.
    """
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
    # The job did not fit, even if the plan says that it does: only settings that need less memory are remedies.
    others = strategies.remedies(setup, Limits(min(limits.gpu, needed - 1), limits.host))
    return [says, *(f"plan: {strategies.sets(setup, other)}" for other in others)] if others else [says, _NOTHING]


_NOTHING = "plan: no strategy takes less on these GPUs: more GPUs, or shorter sequences (train.max_length)"


def _job(made_from: dict[str, Any]) -> Job | None:
    """The job of a run, loaded again from its job file; None if that is gone, or has changed since."""
    pipeline: dict[str, Any] = made_from.get("pipeline") or {}
    path = Path(pipeline.get("path") or made_from.get("job_file") or "")
    if not path.is_file():
        return None
    jobs = load(path, tuple(made_from.get("set") or ()), made_from.get("cluster")).jobs
    job = jobs.get(pipeline["step"]) if pipeline else next(iter(jobs.values()))
    return job if job and job.digest == made_from.get("job_sha256") else None


def _capacity(evidence: Iterable[str]) -> float | None:
    """The GPU's capacity in GiB, from torch's message; None if no line has it."""
    matches = filter(None, map(_CAPACITY.search, evidence))
    return next((float(match[1] or match[2]) for match in matches), None)
