"""`alignlaunch nodes`: the nodes that submissions leave out."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError, printable
from .options import CLUSTER, JSON

if TYPE_CHECKING:
    from ..runs.bad_nodes import BadNode


@click.command()
@CLUSTER
@click.option("--add", metavar="NODE", help="Leave this node out from now on.")
@click.option("--cause", default="noted by hand", show_default=True, metavar="TEXT", help="Why, for --add.")
@click.option("--forget", metavar="NODE", help="Use this node again from now on.")
@JSON
def nodes(cluster: str | None, add: str | None, cause: str, forget: str | None, as_json: bool) -> None:
    """List the nodes that submissions leave out.

    Runs found them faulty, or somebody added them. Each entry expires after a week."""
    from ..job import cluster as profiles
    from ..runs import bad_nodes

    configured = profiles.load(profiles.find(cluster, Path()))[0].bad_nodes if cluster else None
    file = bad_nodes.path(configured)
    if forget and not bad_nodes.forget(file, forget):
        raise UsageError(
            f"--forget {forget}: not among the nodes of {file}\n    remedy: `alignlaunch nodes` lists them"
        )
    if add:
        bad_nodes.note(file, add, cause)
    found = bad_nodes.read(file)
    if as_json:
        click.echo(json.dumps([asdict(one) | {"until": one.until} for one in found]))
        return
    for one in found:
        click.echo(line(one))


def line(one: BadNode) -> str:
    """A node in one line."""
    until = datetime.fromtimestamp(one.until).astimezone()
    run = f" ({one.run})" if one.run else ""
    return printable(f"{one.node}  until {until:%Y-%m-%d %H:%M}  {one.cause}{run}")
