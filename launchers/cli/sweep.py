"""The command `sweep`: a job at many points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..backends import registry
from ..backends.registry import PLACES
from ..errors import UsageError
from .options import AS, job_options, load, say
from .submit import Submission, submit, submit_options


@click.command()
@job_options
@click.option("--over", multiple=True, metavar="KEY=V1,V2", help="A key and its values, or its range {min: 1, max: 9}.")
@click.option("--random", "count", type=click.IntRange(min=1), metavar="N", help="Draw N points, not each combination.")
@click.option("--seed", type=click.IntRange(min=0), help="With --random: the same seed draws the same points.")
@click.option("--max-parallel", type=click.IntRange(min=1), metavar="N", help="Run N points at once at most.")
@click.option("--on", "place", type=click.Choice([*PLACES]), help="Submit there; without it only show the points.")
@AS
@submit_options
def sweep(
    over: tuple[str, ...],
    count: int | None,
    seed: int | None,
    max_parallel: int | None,
    place: str | None,
    **given: Any,
) -> None:
    """Run JOB at many points. Each is a job of its own, with its own script and output folder."""
    options = {"sweep.random.count": count, "sweep.random.seed": seed, "sweep.max_parallel": max_parallel}
    set_ = [*map(_axis, over), *(f"{key}={value}" for key, value in options.items() if value is not None)]
    given["overrides"] = (*given["overrides"], *set_)
    if over and given["named"] is None:
        given["named"] = _named(given["job_file"])
    submission = Submission(**given, only=())
    if place:
        submit(submission, registry.open_(place))
        return
    pipeline = load(submission.job_file, submission.overrides, submission.cluster, submission.named)
    if not pipeline.sweeps:
        raise UsageError(f"{submission.job_file}: no sweep\n    remedy: --over train.learning_rate=1e-5,2e-5")
    say(f"nothing was written or submitted: --on {' or --on '.join(PLACES)} does it")


def _axis(text: str) -> str:
    """`--over a.b=1,2` as an override of the job file."""
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise UsageError(f"--over {text}: not KEY=V1,V2\n    remedy: for example --over train.learning_rate=1e-5,2e-5")
    return f"sweep.over.{key}={values if values.startswith(('{', '[')) else f'[{values}]'}"


def _named(job_file: Path) -> str | None:
    """The name of the sweep of a job; None if the job has none, which is its file's error."""
    from ..job import jobfile, naming

    name = jobfile.read(job_file).data.get("name", naming.of_file(job_file))
    return f"{name}-sweep" if name else None
