"""The checks before anything is written: the place to run, paths, other runs with this output_dir, memory, data."""

from __future__ import annotations

import os
import time
from pathlib import PurePath
from typing import NamedTuple

from ..backends.base import Backend, ForegroundBackend, Rendered, Say
from ..errors import LaunchError, UsageError
from ..job.job import Job, looks_like_path
from ..runs import claim, records
from ..watch import states
from . import data_checks


class Wanted(NamedTuple):
    """Which optional checks to make: reading the data that this machine sees, and planning memory."""

    data: bool = True
    memory: bool = True


EVERYTHING = Wanted()
#: Seconds to wait for an ending run: longer than a pod or a Slurm step has by default between TERM and KILL.
_ENDING_SECONDS = 60.0


def check(rendered: Rendered, backend: Backend, say: Say, wanted: Wanted = EVERYTHING) -> None:
    """Report warnings about a job. Raises UsageError for what cannot work."""
    job = rendered.job
    if rendered.preflight_only:
        _require_preflight(rendered)
    backend.check(rendered, say)
    if backend.shares_files:
        for name in job.spec.secrets:
            if name not in os.environ:
                say(f"warning: secrets: {name} is not set in your environment; the job will not have it")
        _report_missing(job, say, here=isinstance(backend, ForegroundBackend))
    _require_free(job.output_path(rendered.target), say)
    if wanted.memory:
        _plan(rendered, say)
    for line in data_checks.check(job) if wanted.data else ():
        say(line)


def _report_missing(job: Job, say: Say, *, here: bool) -> None:
    """Report missing paths. here: the job runs on this machine, so that a missing path is an error."""
    missing = [f"{key}: {path} is not on this machine" for key, path in missing_paths(job)]
    if missing and here:
        listed = "\n".join(missing)
        raise UsageError(f"{listed}\n    remedy: correct the path, as seen from {job.dir.resolve()}")
    for one in missing:  # only a warning: the nodes may see it
        say(f"warning: {one} (as seen from {job.dir.resolve()})")


def _require_preflight(rendered: Rendered) -> None:
    """Raise UsageError if --preflight-only would compare no nodes."""
    job = rendered.job
    if job.elastic:
        raise UsageError(
            f"--preflight-only: nnodes {job.spec.nnodes} is elastic: preflight compares only fixed nodes\n"
            f"    remedy: --set nnodes={job.nnodes}"
        )
    if not job.preflight_seconds(rendered.target):
        raise UsageError(
            "--preflight-only: preflight_timeout is 0: nothing would be compared\n"
            "    remedy: --set preflight_timeout=60"
        )


def _plan(rendered: Rendered, say: Say) -> None:
    """Raise UsageError for a job that cannot fit in memory, instead of letting it queue for hours and then fail."""
    job, cluster = rendered.job, rendered.job.cluster
    if cluster.gpu_memory_gib is None and cluster.host_memory_gib is None and cluster.storage_bandwidth_gbs is None:
        return  # nothing is known to hold a plan against: do not even import the planner
    from ..planner import plan
    from ..planner.architecture.model import UnknownModelError

    try:
        found = plan.of(job)
    except UnknownModelError as error:
        say(f"memory: not planned ({error})")
        return
    if failure := plan.certain_failure(found):
        raise UsageError(failure)
    if rendered.target == "slurm" and found.too_short_notice:
        say(f"warning: {found.too_short_notice}")


def missing_paths(job: Job) -> list[tuple[str, str]]:
    """(key, path) of each path in the job file that does not exist here. Finds typing errors before the job queues.

    "org/name" may be a hub id, so of model, tokenizer and data only what is absolute, begins with a dot, or ends like a
    data file is checked. Outputs of earlier steps of the pipeline do not count as missing.
    """
    spec = job.spec
    named = [("model", spec.model), ("tokenizer", spec.tokenizer or "")]
    named += [("data.train", source.path) for source in spec.data.sources("train")]
    named += [("data.validation", source.path) for source in spec.data.sources("validation")]
    named = [(key, path) for key, path in named if looks_like_path(path)]
    named += [(f"train.{key}", path) for key, path in job.reward_models.items()]
    return [
        (key, path)
        for key, path in named
        if not (job.dir / path).exists() and not any(PurePath(path).is_relative_to(made) for made in job.upcoming)
    ]


def _require_free(folder: str, say: Say) -> None:
    """Raise UsageError if another run has the output folder: they would overwrite each other's metrics and checkpoints.

    Waits for a run that is just ending.
    """
    known = []
    try:
        known = [run for run in records.load() if run.output_dir == folder]
    except UsageError as broken:  # an unreadable record must not keep a job from running
        say(f"warning: {broken}")
    owner = claim.owner(folder)
    if owner and owner.handle not in {run.handle for run in known}:
        known.append(owner)  # another user's run, or one submitted from another machine
    unanswered: dict[str, LaunchError] = {}
    now = states.refresh(known, unanswered)
    end = time.monotonic() + _ENDING_SECONDS
    for run in now:
        if run.status.state == "COMPLETING":  # such as a run that was just cancelled
            say(f"waiting for {run.name} ({run.handle}) to end: it writes to the same output_dir")
    while any(run.status.state == "COMPLETING" for run in now) and time.monotonic() < end:
        time.sleep(1)
        now = states.refresh(now, unanswered)
    for error in dict.fromkeys(map(str, unanswered.values())):
        say(f"warning: output_dir: cannot find out whether an earlier run still writes there ({error})")
    live = [run for run in now if not run.status.is_final and run.handle not in unanswered]
    if live:
        raise claim.taken_error(live[0], folder)
