"""From a pipeline to its runs: every step is prepared before the first is submitted. A job file has one step."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from ..audit import drift
from ..audit.drift import DriftError
from ..backends.slurm import submission as slurm
from ..errors import LaunchError, UsageError
from ..job.job import Job
from ..job.pipeline import Pipeline
from ..render.render import Target
from ..runs.records import Run
from ..watch import states
from . import checks, foreground, submission
from .checks import EVERYTHING, Looks
from .submission import Prepared, Say

T = TypeVar("T")


def prepare(
    pipeline: Pipeline,
    target: Target,
    *,
    write: bool,
    require_committed: bool,
    say: Say,
    looks: Looks = EVERYTHING,
    dry: bool = False,
) -> dict[str, Prepared]:
    """Look at every step, then make the committed folders and the steps agree; `dry`: without writing anything.

    Raises UsageError with all that cannot work, before anything is written; DriftError with all that differs.
    """
    _each(pipeline, UsageError, lambda job: checks.check(job, target, say, looks))
    prepared = _each(
        pipeline,
        DriftError,
        lambda job: submission.prepare(job, target, write=write, require_committed=require_committed, say=say, dry=dry),
    )
    if require_committed:
        drift.require_committed(pipeline.path)
    return prepared


def _each(pipeline: Pipeline, error: type[LaunchError], do: Callable[[Job], T]) -> dict[str, T]:
    """What `do` gives for every step. Raises one error with those of all steps."""
    done: dict[str, T] = {}
    refused: list[str] = []
    for step, job in pipeline.jobs.items():
        try:
            done[step] = do(job)
        except error as problem:
            refused.append(f"step {step}: {problem}" if pipeline.name and error is UsageError else str(problem))
    if refused:
        raise error("\n".join(refused))
    return done


def submit_slurm(pipeline: Pipeline, prepared: dict[str, Prepared], say: Say) -> list[Run]:
    """Submit every step, each to wait for those it needs, or none: what was submitted before a failure is cancelled."""
    for name in slurm.overriding_variables():
        say(f"warning: {name} in your environment wins over the script; `unset {name}` to run what is committed")
    chain, runs = _new_id(pipeline), dict[str, Run]()
    try:
        for step, one in prepared.items():
            after = [runs[need].id for need in pipeline.needs[step]]
            runs[step] = submission.submit_slurm(one, say, after=after, chain=chain)
    except BaseException:
        if pipeline.name:
            say(f"{step} could not be submitted, so none shall be")
        for run in reversed(runs.values()):
            _take_back(run, say)
        raise
    return list(runs.values())


def _take_back(run: Run, say: Say) -> None:
    try:
        states.backend_of(run).cancel(run)
        say(f"cancelled {run.handle} {run.name}")
    except LaunchError as error:
        say(f"{run.handle} {run.name} could not be cancelled ({error}); later: alignlaunch cancel {run.handle}")


def queue_local(pipeline: Pipeline, prepared: dict[str, Prepared]) -> list[Run]:
    """A run for every step, none of them started."""
    chain = _new_id(pipeline)
    return [submission.queue_local(one, chain=chain) for one in prepared.values()]


def run_local(prepared: dict[str, Prepared], runs: list[Run], *, follow: bool, say: Say) -> int:
    """Run the steps one after the other in the foreground, up to the first that fails. Returns its exit code, or 0."""
    waiting = list(zip(prepared.values(), runs, strict=True))
    code = 0
    try:
        while waiting and not code:
            one, run = waiting.pop(0)
            run = states.refresh([run])[0]
            if run.status.is_final:  # somebody cancelled it while it waited
                say(states.describe(run))
                code = run.status.process_code
                continue
            if len(runs) > 1:
                say(f"{run.name}: {run.handle}")
            process = submission.start_local(one, run)
            code = foreground.attend(run, process, follow=follow, preflight_only=one.preflight_only, say=say)
    finally:
        for _, run in waiting:
            states.backend_of(run).cancel(run)
            say(f"{run.name}: never started")
        states.refresh([run for _, run in waiting])
    return code


def _new_id(pipeline: Pipeline) -> str:
    return f"{pipeline.name}/{secrets.token_hex(4)}" if pipeline.name else ""
