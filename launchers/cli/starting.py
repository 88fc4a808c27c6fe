"""The command `init`: a starter job file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from .options import say


@click.command()
@click.argument("stage")
@click.option("--model", metavar="PATH", help="The model: a folder, from here, or a hub id.")
@click.option("--data", metavar="PATH", help="The training data: a file or folder, from here, or a hub id.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout.")
def init(stage: Any, model: str | None, data: str | None, output: Path | None) -> None:
    """Write a starter job file for machine and model. STAGE: pt, sft, rm, dpo, orpo or safe_dpo. Explains each line."""
    from ..starter import machine, text
    from ..starter import model as models

    if output and output.exists():
        raise UsageError(f"{output}: exists already\n    remedy: name another file")
    text.of(stage)  # an unknown one is said before the machine is asked
    base = output.parent if output else Path()
    named = {key: _from(base, f"--{key}", value) for key, value in (("model", model), ("data", data)) if value}
    facts = None
    try:
        facts = models.facts(named["model"], base) if model else None
    except UsageError as error:
        say(f"note: --model: {error}; nothing in the file follows from it")
    found = machine.ask()
    for trouble in found.troubles:
        say(f"note: {trouble}; nothing in the file follows from it")
    made = text.of(stage, text.Wanted(named.get("model"), named.get("data"), facts, found))
    if output is None:
        click.echo(made, nl=False)
        return
    output.write_text(made, encoding="utf-8")
    say(f"wrote {output}; its first line names the schema: `alignlaunch schema > alignlaunch.schema.json`")


def _from(base: Path, option: str, value: str) -> str:
    """A path as the job file in `base` must write it; what is not here may be a hub id, and is not a path to change."""
    from ..job.job import looks_like_path

    if not value.isprintable():
        raise UsageError(f"{option} {value!a}: not printable text\n    remedy: rename it")
    path = Path(value)
    if path.is_absolute() or not (path.exists() or looks_like_path(value)):
        return value
    if not path.exists():
        say(f"note: {option}: {value} is not here; it is written down all the same")
    moved = os.path.relpath(path, base)
    return moved if moved.startswith(".") else f"./{moved}"  # which is no hub id
