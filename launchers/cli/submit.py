"""The command of each place to run: submits a job or pipeline file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..backends import registry
from ..backends.registry import PLACES
from ..errors import UsageError
from .options import AS, JSON, RUN, exit_code, job_options, load, say

if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..job.pipeline import Pipeline
    from ..runs.records import Run


class Submission(NamedTuple):
    """The options that the commands of all places have in common."""

    job_file: Path
    overrides: tuple[str, ...]
    cluster: str | None
    named: str | None
    only: tuple[str, ...]
    write: bool
    require_committed: bool
    no_data_check: bool
    no_plan: bool
    preflight_only: bool
    dry_run: bool
    follow: bool
    wait: bool
    as_json: bool


_OPTIONS = [
    click.option("--write", is_flag=True, help="Accept the new rendering where it differs from the one on disk."),
    click.option("--require-committed", is_flag=True, help="Refuse unless git has script and job file as they are."),
    click.option("--no-data-check", is_flag=True, help="Do not read the data that this machine sees."),
    click.option("--no-plan", is_flag=True, help="Do not refuse what cannot fit in memory."),
    click.option("--preflight-only", is_flag=True, help="Let the nodes meet and compare; train nothing."),
    click.option("--dry-run", is_flag=True, help="Print the script; write and submit nothing."),
    click.option("--follow", is_flag=True, help="Show the log until the end."),
    click.option("--wait", is_flag=True, help="Return when the run has ended, with its exit code."),
    JSON,
]


def submit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: adds the options of every submission."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def command_of(scheme: str) -> click.Command:
    """The command that submits to a place."""
    place = PLACES[scheme]

    @job_options
    @AS
    @submit_options
    def command(**given: Any) -> None:
        submission = Submission(**{name: given.pop(name, ()) for name in Submission._fields})
        submit(submission, registry.open_(scheme, **given))

    for option in reversed(place.options):
        kind: Any = {"metavar": option.metavar} if option.metavar else {"is_flag": True}
        command = click.option(f"--{option.name.replace('_', '-')}", option.name, help=option.help, **kind)(command)
    return click.command(scheme, help=place.help)(command)


@click.command()
@RUN
@submit_options
def retry(run: str, **given: Any) -> None:
    """Submit RUN's job again, where it ran. It goes on from its last checkpoint."""
    from ..watch import again

    once_more = again.of(run)
    backend = registry.open_(once_more.scheme, **once_more.options)
    submit(
        Submission(once_more.job_file, once_more.overrides, once_more.cluster, None, once_more.only, **given), backend
    )


def submit(submission: Submission, backend: Backend) -> None:
    from ..backends.base import ForegroundBackend
    from ..submit import checks, foreground, steps, sweeps
    from ..submit.detached import Detached

    pipeline = load(submission.job_file, submission.overrides, submission.cluster, submission.named)
    if submission.preflight_only and pipeline.name:
        what, remedy = (
            ("a sweep; each of its points would look at nodes of its own", "give a job file without `sweep`")
            if "" in pipeline.sweeps
            else ("a pipeline; its later steps read what is not made yet", "give the job file of a step")
        )
        raise UsageError(f"--preflight-only: {submission.job_file} is {what}\n    remedy: {remedy}")
    rendered = steps.render(pipeline, backend, preflight_only=submission.preflight_only)
    if submission.only:
        rendered = {step: rendered[step] for step in submission.only}
    arrays = sweeps.arrays(pipeline, rendered, backend)
    if submission.dry_run:
        for one in [*arrays.values(), *rendered.values()]:
            click.echo(backend.script(one), nl=False)
    wanted = checks.Wanted(data=not submission.no_data_check, memory=not submission.no_plan)
    steps.check(pipeline, rendered, backend, say, wanted)
    accept, committed, dry = submission.write, submission.require_committed, submission.dry_run
    # An array's folder holds those of its points: it is written before them.
    files = steps.write(pipeline, arrays | rendered, accept=accept, committed=committed, dry=dry, say=say)
    arrays, rendered = ({step: files[step] for step in part} for part in (arrays, rendered))
    if submission.dry_run:
        in_arrays = [point for step in arrays for point in pipeline.sweeps[step]]
        for step, one in files.items():
            if step not in in_arrays and (answer := backend.dry_run(one)):
                say(answer)
        return
    away = Detached() if isinstance(backend, ForegroundBackend) and backend.detach else None
    runs = steps.submit(pipeline, rendered, arrays, backend, say)
    print_runs([*runs.values()], submission.as_json)
    if away:
        away.leave(Path(next(iter(runs.values())).run_dir) / "progress.log")
    if isinstance(backend, ForegroundBackend):
        required = {step: pipeline.required(step) for step in runs}
        sys.exit(foreground.run_all(rendered, runs, backend, required, follow=submission.follow, say=say))
    watch_runs(pipeline, [*runs.values()], submission)


def print_runs(runs: list[Run], as_json: bool) -> None:
    """One handle per line; as JSON a list."""
    if as_json:
        click.echo(json.dumps([run.as_json() for run in runs]))
    for run in runs:
        if not as_json:
            click.echo(run.handle)
        if run.log:
            say(f"log: {run.log}")


def watch_runs(pipeline: Pipeline, runs: list[Run], submission: Submission) -> None:
    """--follow and --wait after a submission. Ctrl-C leaves the jobs running, with a message."""
    from ..watch import following, states, turns, words

    if not (submission.follow or submission.wait):
        if note := turns.notice(runs):
            say(note)
        return
    ended = []
    try:
        turns.give(runs, say)
        for run in runs:
            if submission.follow:
                for line in following.follow(run, say, lambda _: True):
                    click.echo(line, nl=False)
                ended += states.refresh(states.find(run.handle))
            else:
                ended.append(states.wait(run, say))
            if ended[-1].status.state == "COMPLETED":
                say(words.result(run, preflight_only=submission.preflight_only))
    except KeyboardInterrupt:
        say(f"stopped watching; the job goes on. To end it: alignlaunch cancel {pipeline.name or runs[0].handle}")
        sys.exit(130)
    sys.exit(exit_code(ended))
