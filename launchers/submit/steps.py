"""From a pipeline to its runs: every step is rendered and checked before the first is submitted.

A job file is a pipeline of one step.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..audit import drift
from ..audit.drift import DriftError
from ..backends import registry
from ..backends.base import ArrayBackend, Backend, Rendered, Say, TurnsBackend
from ..errors import LaunchError, UsageError
from ..job import cluster
from ..job.job import Job
from ..job.pipeline import Pipeline
from ..runs.records import Run
from . import checks, submission
from .checks import EVERYTHING, Wanted

S = TypeVar("S")
T = TypeVar("T")


def render(pipeline: Pipeline, backend: Backend, *, preflight_only: bool = False) -> dict[str, Rendered]:
    """The files of every step for a place to run. Raises UsageError with all steps that cannot run there."""
    if any(pipeline.needs.values()) and not backend.orders_jobs:
        raise UsageError(
            f"{pipeline.path}: {backend.scheme} runs no job after another\n"
            "    remedy: submit the steps' job files one after the other with --wait, or the pipeline with `slurm`"
        )
    target = backend.target

    def of_step(job: Job) -> Rendered:
        folder = drift.folder_of(job, target)
        return Rendered(job, target, folder, drift.artifacts(job, target, folder), preflight_only)

    return _each(pipeline, pipeline.jobs, UsageError, of_step)


def check(
    pipeline: Pipeline, rendered: dict[str, Rendered], backend: Backend, say: Say, wanted: Wanted = EVERYTHING
) -> None:
    """Check every step before anything is written. Raises UsageError with all that cannot work."""
    reported: set[str] = set()

    def once(message: str) -> None:  # steps often share a warning
        if message not in reported:
            reported.add(message)
            say(message)

    _each(pipeline, rendered, UsageError, lambda one: checks.check(one, backend, once, wanted))


def write(
    pipeline: Pipeline, rendered: dict[str, Rendered], *, accept: bool, committed: bool, dry: bool, say: Say
) -> dict[str, Rendered]:
    """Write the rendered files to their folders under version control. Raises DriftError with all that differs there.

    Returns what is to be submitted: the files as they are in these folders now, and those of variants, which have none.

    accept: overwrite what differs. committed: require that these files and their sources are committed to git.
    dry: write nothing.
    """

    if committed:
        _require_no_variant(pipeline)

    def agree(one: Rendered) -> Rendered:
        if one.job.varies:
            return one  # its files lie in the run's folder alone
        if done := drift.ensure(one.folder, one.files, accept=accept, dry=dry):
            say(done)
        if committed:
            for path in _sources(one):
                drift.require_committed(path)
        return one if dry else replace(one, files=drift.read(one.folder, one.files))

    agreed = _each(pipeline, rendered, DriftError, agree)
    if committed:
        drift.require_committed(pipeline.path)
    return agreed


def _require_no_variant(pipeline: Pipeline) -> None:
    """Raise DriftError for a variant, of which git has nothing."""
    if varied := [job for job in pipeline.jobs.values() if job.varies]:
        to_name = "--set STEP.name=NAME" if pipeline.name else "--as NAME"
        raise DriftError(
            "\n".join(f"{job.spec.name}: {line}" for job in varied for line in job.varies)
            + "\nnot committed: a variant is rendered into its run's folder alone\n"
            f"    remedy: `alignlaunch render {pipeline.path} --set ... {to_name}`, commit, and submit with the same"
        )


def _sources(one: Rendered) -> list[Path]:
    profile = [cluster.find(one.job.cluster_name, one.job.dir)] if one.job.cluster_name else []
    return [one.folder, one.job.path, *profile]


def _each(pipeline: Pipeline, steps: Mapping[str, S], error: type[LaunchError], do: Callable[[S], T]) -> dict[str, T]:
    """{step: what `do` returns for it}. Raises one error that joins the errors of all steps."""
    done: dict[str, T] = {}
    refused: list[str] = []
    for step, of_step in steps.items():
        try:
            done[step] = do(of_step)
        except error as problem:
            refused.append(f"step {step}: {problem}" if pipeline.name and error is UsageError else str(problem))
    if refused:
        raise error("\n".join(refused))
    return done


def submit(
    pipeline: Pipeline, rendered: dict[str, Rendered], arrays: Mapping[str, Rendered], backend: Backend, say: Say
) -> dict[str, Run]:
    """Submit all steps, each to start after those that it needs. If one fails, those before it are cancelled.

    arrays: of the steps that are sweeps, where the place takes arrays.
    """
    of_pipeline = f"{pipeline.name}/{secrets.token_hex(4)}" if pipeline.name else ""
    runs: dict[str, Run] = {}
    step = ""
    try:
        for step, one in rendered.items():
            if step in runs:
                continue
            after = [runs[needed] for needed in pipeline.needs[step] if needed in runs]
            whole = next((name for name in arrays if step in pipeline.sweeps[name]), None)
            if whole is not None and isinstance(backend, ArrayBackend):
                points = {i: name for i, name in enumerate(pipeline.sweeps[whole]) if name in rendered}
                of_points = {i: rendered[name] for i, name in points.items()}
                submitted = submission.submit_array(
                    arrays[whole], of_points, backend, say, after=after, pipeline=of_pipeline
                )
                runs |= {points[i]: run for i, run in submitted.items()}
                continue
            of_sweep = sum(rendered[name].job.family == one.job.family for name in runs)
            one = replace(one, suspended=_waits_for_its_turn(one, of_sweep, backend))  # noqa: PLW2901
            runs[step] = submission.submit(one, backend, say, after=after, pipeline=of_pipeline)
    except BaseException:
        if pipeline.name:
            say(f"{step} could not be submitted, so none shall be")
        for run in reversed(runs.values()):
            _cancel_submitted(run, say)
        raise
    return runs


def _waits_for_its_turn(one: Rendered, before: int, backend: Backend) -> bool:
    """Whether so many points of its sweep are submitted before this one that it has to wait."""
    most = one.job.point.most if one.job.point else None
    return isinstance(backend, TurnsBackend) and most is not None and before >= most and not backend.has_queue(one.job)


def _cancel_submitted(run: Run, say: Say) -> None:
    try:
        registry.of(run.scheme).cancel(run)
        say(f"cancelled {run.handle} {run.name}")
    except LaunchError as error:
        say(f"{run.handle} {run.name} could not be cancelled ({error}); later: alignlaunch cancel {run.handle}")
