"""The command line. Thin: each command reads its options, calls one module, and prints.

A command imports that module when it runs, so that `--help` and completion are quick.
"""

from __future__ import annotations

import click

from alignlaunch import __version__

from ..backends.registry import PLACES
from ..errors import UsageError
from . import (
    about,
    data,
    files,
    gc,
    importing,
    nodes,
    plan,
    results,
    runs,
    shell,
    starting,
    submit,
    sweep,
    top,
    trained,
)
from .group import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alignlaunch")
def main() -> None:
    """One job file to a running, audited alignment-training job."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL. For example: eval "$(alignlaunch completion bash)"."""
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is None:  # pragma: no cover - click ships all three
        raise UsageError(f"no completion for {shell}")
    click.echo(completer(main, {}, "alignlaunch", "_ALIGNLAUNCH_COMPLETE").source())


for command in (
    *(starting.init, importing.import_, files.schema, files.render, files.check, plan.plan, data.data),
    *(*map(submit.command_of, PLACES), sweep.sweep, submit.retry),
    *(runs.list_, runs.status, top.top, about.describe, runs.logs, runs.diagnose, runs.save, runs.cancel, runs.wait),
    *(shell.shell, nodes.nodes, about.profiles, gc.gc),
    *(results.compare, results.report),
    *(trained.export, trained.evaluate, completion),
):
    main.add_command(command)
