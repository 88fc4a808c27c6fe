"""Commands on runs: list, status, logs, diagnose, save, cancel, wait."""

from __future__ import annotations

import json
import sys
from time import time
from typing import TYPE_CHECKING, Any

import click

from ..errors import LaunchError, UsageError
from . import completing
from .options import JSON, RUN, exit_code, say

if TYPE_CHECKING:
    from ..runs.records import Run


#: So many of the latest runs are looked through.
_MOST = 10_000
#: What a narrow terminal can do without, in this order.
_SPARE = ("OUTPUT", "EXIT", "SUBMITTED", "GPUS", "ELAPSED")


@click.command("list")
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option(
    "--state", "wanted", multiple=True, metavar="STATE", help="Only those in this state (RUNNING, FAILED...)."
)
@click.option("--name", metavar="PATTERN", help="Only those of this name; * stands for any characters.")
@click.option("--since", metavar="TIME", help="Only those submitted since: 2d, 12h, 30m, or a date.")
@JSON
def list_(count: int, wanted: tuple[str, ...], name: str | None, since: str | None, as_json: bool) -> None:
    """List the latest runs with their states."""
    from ..runs import records
    from ..watch import chosen, states

    unanswered: dict[str, LaunchError] = {}
    latest = records.load(_MOST if wanted or name or since else count)
    found = states.refresh(list(chosen.submitted(latest, name=name, since=since)), unanswered)
    states_wanted = {state.upper() for state in wanted}
    show([run for run in found if not wanted or run.status.state in states_wanted][:count], as_json)
    for error in dict.fromkeys(map(str, unanswered.values())):
        say(f"error: {error}\n    the states of its runs above are the last known ones")
    sys.exit(max((error.exit_code for error in unanswered.values()), default=0))


@click.command()
@RUN
@JSON
@click.option("--goodput", "with_goodput", is_flag=True, help="Also where the time went: training, saves, restarts...")
def status(run: str, as_json: bool, with_goodput: bool) -> None:
    """Show the state of RUN and its attempts. RUN: a handle, the name of a job or pipeline, or `last`."""
    from ..retry import history
    from ..watch import states
    from . import summary

    found = states.refresh(states.find(run))
    if as_json:
        told = zip(found, as_data(found), strict=True)
        click.echo(json.dumps([data | history.as_json(one, with_goodput=with_goodput) for one, data in told]))
        return
    show(found, as_json, outputs=True)
    shown = [summary.attempts(found[0])] if len(found) == 1 else []
    shown += [summary.goodput(one) for one in found if with_goodput]
    for text in filter(None, shown):
        click.echo(text)


def show(runs: list[Run], as_json: bool, *, outputs: bool = False) -> None:
    """Print runs: as JSON, as a table in colour on a terminal, else as aligned text. outputs: also their folders."""
    from .. import tables
    from . import summary

    if as_json:
        click.echo(json.dumps(as_data(runs)))
    elif not runs:
        click.echo("no runs are recorded")
    elif not sys.stdout.isatty():
        click.echo(tables.aligned(summary.table(runs, outputs=outputs)))
    elif left_out := tables.show(summary.table(runs, outputs=outputs), _SPARE):
        say(f"too wide for this terminal, and in a pipe: {', '.join(left_out)}")


def as_data(runs: list[Run]) -> list[dict[str, Any]]:
    from ..watch import overview

    now = time()
    return [overview.as_json(overview.of(run, now)) for run in runs]


@click.command()
@RUN
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--rank", type=click.IntRange(min=0), help="Only this rank's lines.")
@click.option("--node", type=click.IntRange(min=0), help="Only this node's lines.")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last N lines.")
@JSON
def logs(run: str, follow: bool, rank: int | None, node: int | None, tail: int | None, as_json: bool) -> None:
    """Print the log of RUN, all ranks in one view."""
    from ..backends import registry
    from ..watch import states

    found = [one for one in states.find(run) if follow or registry.of(one.scheme).has_log(one)]
    if not found:
        last = states.refresh(states.find(run))[-1]
        raise LaunchError(f"{run}: {registry.of(last.scheme).why_no_log(last)}")
    for one in found:
        print_log(one, follow, rank, node, tail, as_json)


def print_log(run: Run, follow: bool, rank: int | None, node: int | None, count: int | None, as_json: bool) -> None:
    from ..backends import registry
    from ..watch import following, lines

    wanted = lines.selector(run, rank, node)
    if follow:
        shown = following.follow(run, say, wanted, count)
    else:
        shown = registry.of(run.scheme).log(run, count, wanted, None, say)
    as_data = lines.as_data(run)
    for line in shown:
        click.echo(json.dumps(as_data(line)) if as_json else line, nl=as_json)


@click.command()
@click.argument("run", metavar="[RUN|FOLDER]", default="last", shell_complete=completing.runs)
@JSON
def diagnose(run: str, as_json: bool) -> None:
    """Tell why RUN failed. Which rank failed first, the cause and the remedy; FOLDER: where the logs of a run are."""
    from ..diagnose import report

    found = report.diagnose(run, say)
    if as_json:
        click.echo(json.dumps([report.as_json(name, verdict) for name, verdict in found]))
    else:
        click.echo("\n\n".join(report.as_text(name, verdict) for name, verdict in found))


@click.command()
@RUN
@JSON
@click.option("--stop", is_flag=True, help="End the run then. Submitted again, it goes on from there.")
def save(run: str, as_json: bool, stop: bool) -> None:
    """Have RUN save a checkpoint now. Of a sweep each point that runs. Prints its folder once it is complete."""
    from ..watch import saving, states

    found = states.refresh(states.find(run))
    if len(found) > 1:
        found = [one for one in found if one.status.state == "RUNNING"] or found[:1]
    saved = dict(zip((one.handle for one in found), saving.save(found, say, stop=stop), strict=True))
    failed = [error for error in saved.values() if isinstance(error, LaunchError)]
    made = {handle: str(one) for handle, one in saved.items() if not isinstance(one, LaunchError)}
    if as_json:
        click.echo(json.dumps([{"handle": handle, "checkpoint": folder} for handle, folder in made.items()]))
    else:
        for folder in made.values():
            click.echo(folder)
    for error in failed:
        say(f"error: {error}")
    sys.exit(max((error.exit_code for error in failed), default=0))


@click.command()
@click.argument("run", metavar="[RUN]", required=False, shell_complete=completing.runs)
@JSON
@click.option("--keep", is_flag=True, help="On Kubernetes, where logs go with the pods: save them first.")
def cancel(run: str | None, as_json: bool, keep: bool) -> None:
    """End RUN. Every process of it ends, of a pipeline every step. Without RUN it asks about the last one."""
    from ..backends import registry
    from ..watch import states

    found = states.find(run or "last")
    if run is None:
        _confirm(found)
    for one in reversed(found):  # a waiting step is cancelled before the step that it waits for
        if keep:
            registry.of(one.scheme).keep_log(one, say)
        states.cancel(one)
    show(states.refresh(found), as_json)


def _confirm(runs: list[Run]) -> None:
    """Ask whether these runs, which nobody named, are meant. Raises UsageError if nobody is there to be asked."""
    named = ", ".join(f"{run.handle} ({run.name})" for run in runs)
    if not sys.stdin.isatty():
        raise UsageError(f"cancel: no run is named\n    remedy: the last is {named}; `alignlaunch cancel last` ends it")
    click.confirm(f"Cancel {named}?", abort=True, err=True)


@click.command()
@RUN
@JSON
def wait(run: str, as_json: bool) -> None:
    """Wait for RUN to end. Exits with the job's own code, of a pipeline with that of the first step that failed."""
    from ..watch import states, turns

    found = states.find(run)
    turns.give(found, say)
    ended = [states.wait(one, say) for one in found]
    if as_json:
        show(ended, as_json)
    sys.exit(exit_code(ended))
