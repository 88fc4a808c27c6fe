"""The command shell."""

from __future__ import annotations

import os
import shutil
import sys

import click

from ..errors import UsageError
from . import completing


@click.command()
@click.argument("run", metavar="RUN", shell_complete=completing.runs)
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]", type=click.UNPROCESSED)
@click.option("--rank", type=click.IntRange(min=0), help="On the node of this rank.")
@click.option("--node", type=click.IntRange(min=0), help="On this node, counted from 0.")
def shell(run: str, command: tuple[str, ...], rank: int | None, node: int | None) -> None:
    """Open a shell where RUN runs, or run COMMAND there. On Slurm beside it in its job, on Kubernetes in its pod."""
    from ..watch import inside

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    line = inside.command(run, rank, node, command, terminal=terminal)
    if not shutil.which(line[0]):
        raise UsageError(f"{line[0]}: command not found\n    remedy: run this on a login node of the cluster")
    os.execvp(line[0], line)  # noqa: S606 - its place is ours: terminal, signals and exit code
