"""The command gc."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from ..errors import LaunchError
from .options import JSON, say


@click.command()
@click.option("--older-than", default="30d", show_default=True, metavar="TIME", help="Nothing written since: 30d, 12h.")
@click.option("--yes", is_flag=True, help="Remove them; without it they are listed.")
@JSON
def gc(older_than: str, yes: bool, as_json: bool) -> None:
    """Remove the folders of runs that ended long ago. Never an output folder; the record keeps how they ended."""
    from .. import tables
    from ..watch import chosen, garbage, progress

    now = datetime.now(UTC)
    found, unanswered = garbage.find((now - chosen.moment(older_than, now)).total_seconds())
    for error in dict.fromkeys(map(str, unanswered.values())):
        say(f"warning: {error}\n    the runs of that place stay")
    kept: list[str] = []
    for one in found if yes else ():
        try:
            garbage.remove(one)
        except LaunchError as error:
            say(f"error: {error}")
            kept.append(str(one.path))
    if as_json:
        told = [{"folder": str(one.path), "name": one.name, "size": one.size, "age": one.age} for one in found]
        click.echo(json.dumps(told))
    elif found:
        rows = [(one.name, f"{one.size / 2**20:.1f} MiB", progress.shown(one.age), str(one.path)) for one in found]
        click.echo(tables.aligned([("NAME", "SIZE", "AGE", "FOLDER"), *rows]))
    total = sum(one.size for one in found) / 2**20
    done = "removed" if yes else "would be removed: --yes does it"
    say(f"{len(found) - len(kept)} folders, {total:.1f} MiB {done}")
    if kept:
        raise LaunchError(f"{len(kept)} folders could not be removed")
