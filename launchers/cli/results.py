"""Commands that look at what runs have come to: compare, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import completing
from .options import JSON, say

if TYPE_CHECKING:
    from ..results.gather import Result

RUNS = click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=completing.runs)


@click.command()
@RUNS
@click.option("--sort", "column", metavar="COLUMN", help="Sort by it: eval_loss.best, tokens/s, train.learning_rate...")
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with every metric.")
@click.option("--png", metavar="FILE", type=click.Path(path_type=Path), help="Draw the curves as a picture.")
def compare(runs: tuple[str, ...], column: str | None, as_json: bool, as_csv: bool, png: Path | None) -> None:
    """Compare RUNs by their jobs, metrics, speed, memory and goodput."""
    from ..results import picture, summary, table

    results, code = _read(runs)
    compared = summary.compare(results)
    rows = summary.ordered(compared, column) if column else compared.rows
    columns = compared.shown + ([column] if column and column not in compared.shown else [])
    if as_json:
        click.echo(json.dumps([summary.as_json(row, compared) for row in rows]))
    elif as_csv:
        click.echo(table.as_csv(compared, rows), nl=False)
    elif sys.stdout.isatty():
        if left_out := table.rich(rows, columns):
            say(f"too wide for this terminal, and in --csv: {', '.join(left_out)}")
    else:
        click.echo(table.plain(rows, columns))
    if png:
        picture.write(png, rows)
    sys.exit(code)


def _read(names: tuple[str, ...]) -> tuple[list[Result], int]:
    """What is known of these runs, and the exit code: that of a place that did not answer. Tells what is missing."""
    from ..errors import LaunchError
    from ..results import gather

    unanswered: dict[str, LaunchError] = {}
    results = gather.read(gather.find(names, unanswered))
    for result in results:
        for note in result.notes:
            say(f"{result.name} ({result.handle}): {note}")
    for error in dict.fromkeys(map(str, unanswered.values())):
        say(f"error: {error}\n    the states of its runs are the last known ones")
    return results, max((error.exit_code for error in unanswered.values()), default=0)


@click.command()
@RUNS
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page to write; by default report.html.",
    default=Path("report.html"),
)
def report(runs: tuple[str, ...], output: Path) -> None:
    """Write a page about RUNs, with curves and provenance. One HTML file that needs no network."""
    from ..files import unwritable, write_atomic
    from ..results import page

    results, code = _read(runs)
    text = page.render(results)
    try:
        write_atomic(output, text)
    except OSError as error:
        raise unwritable(output, error) from error
    click.echo(output)
    sys.exit(code)
