"""Commands that tell what is known: describe, profiles."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import LaunchError, UsageError, printable
from .options import JSON, RUN, say


@click.command()
@RUN
@JSON
def describe(run: str, as_json: bool) -> None:
    """Tell what RUN was made from. Job file, commit, command, nodes, python, and the digests of what ran."""
    from ..audit import provenance
    from ..watch import states
    from . import summary

    found = states.find(run)
    told = {one.handle: provenance.read(Path(one.run_dir)) if one.run_dir else {} for one in found}
    for one in found:
        if not told[one.handle]:
            raise UsageError(f"{one.handle}: no {provenance.FILE} in {one.run_dir or 'a folder that is known'}")
    if as_json:
        click.echo(json.dumps([{"handle": handle, **data} for handle, data in told.items()]))
        return
    click.echo("\n\n".join(summary.description(one, told[one.handle]) for one in found))


@click.command()
@JSON
def profiles(as_json: bool) -> None:
    """List the cluster profiles. Those that a job file in this folder can use, with --cluster NAME."""
    from ..job import cluster

    rows = []
    for name in cluster.names(Path()):
        path = cluster.find(name, Path())
        try:
            cluster.load(path)
        except LaunchError as error:
            say(f"warning: {error}")
        rows.append({"name": name, "path": str(path)})
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(printable(f"{row['name']}  {row['path']}"))
    if not rows:
        say("no profile: `alignlaunch schema cluster` lists the keys of one, clusters/NAME.yaml is its place")
