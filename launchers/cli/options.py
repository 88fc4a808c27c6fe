"""Shared by several commands: options, messages to the user, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import printable
from . import completing

if TYPE_CHECKING:
    from ..job.pipeline import Pipeline
    from ..runs.records import Run

JOB = click.argument("job_file", metavar="JOB", type=click.Path(path_type=Path))
RUN = click.argument("run", metavar="[RUN]", default="last", shell_complete=completing.runs)
TRAINED = click.argument("run", metavar="[RUN|DIR]", default="last", shell_complete=completing.runs)
CLUSTER = click.option(
    "--cluster",
    envvar="ALIGNLAUNCH_CLUSTER",
    metavar="NAME",
    help="Cluster profile.",
    shell_complete=completing.clusters,
)
DIGEST = click.option(
    "--require-digest", is_flag=True, help="Refuse an image on Kubernetes that is not NAME@sha256:DIGEST."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--set and --cluster, which every command that reads a job file has."""
    set_ = click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a key: a.b=c.",
        shell_complete=completing.keys,
    )
    return JOB(set_(CLUSTER(command)))


AS = click.option("--as", "named", metavar="NAME", help="With --set: a job of this name, committed as such.")


def say(message: str) -> None:
    """Show the user a message, on stderr: stdout is for output that scripts read."""
    click.echo(f"alignlaunch: {printable(message)}", err=True)


def load(job_file: Path, overrides: tuple[str, ...], cluster: str | None, named: str | None = None) -> Pipeline:
    from ..job import pipeline
    from . import summary

    loaded = pipeline.load(job_file, (*overrides, *([f"name={named}"] if named else [])), cluster)
    for line in summary.of(loaded):
        say(line)
    return loaded


def exit_code(runs: list[Run]) -> int:
    """The exit code of the first run that failed; 0 if none did."""
    return next((run.status.process_code for run in runs if run.status.process_code), 0)
