"""The command top: a live table of one's runs."""

from __future__ import annotations

import click


@click.command()
@click.option("--name", metavar="PATTERN", help="Only runs of this name; * stands for any characters.")
@click.option(
    "--state", "wanted", multiple=True, metavar="STATE", help="Only those in this state (RUNNING, PENDING...)."
)
@click.option("-n", "count", type=click.IntRange(min=1), default=100, show_default=True, help="The most runs.")
@click.option(
    "--interval", type=click.FloatRange(min=1), default=5, show_default=True, help="Seconds between two looks."
)
def top(name: str | None, wanted: tuple[str, ...], count: int, interval: float) -> None:
    """Watch the runs that go on, in a live table. Keys sort it, open a log, cancel a run; q quits."""
    from . import top_session

    top_session.watch(name, wanted, count, interval)
