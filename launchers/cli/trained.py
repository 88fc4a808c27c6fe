"""Commands on the output of a run: export, eval."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from .options import JSON, TRAINED


@click.command()
@TRAINED
@click.option("--merge", is_flag=True, help="Merge a LoRA adapter into its base: a whole model.")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--base", metavar="DIR", help="The adapter's base, where it is not where it was.")
def export(run: str, merge: bool, output: Path | None, base: str | None) -> None:
    """Write the weights of RUN to a model folder. RUN may also be a trained folder."""
    from .. import trained

    found = trained.find(run)
    output = output or found.folder.with_name(f"{found.folder.name}-{'merged' if merge else 'exported'}")
    arguments = [str(output.absolute()), *(["--merge"] if merge else []), *(["--base", base] if base else [])]
    trained.run(found, "alignlaunch.train.export", str(found.folder), *arguments)
    click.echo(output)


@click.command("eval")
@TRAINED
@click.option("--data", metavar="PATH", multiple=True, help="Data to evaluate on instead of the job's validation data.")
@JSON
def evaluate(run: str, data: tuple[str, ...], as_json: bool) -> None:
    """Evaluate RUN on this machine. As its stage evaluates, also written to eval.json; RUN may be a trained folder."""
    from .. import trained
    from . import summary

    found = trained.evaluate(trained.find(run), data)
    if as_json:  # JSON has no NaN
        metrics = {name: value if math.isfinite(value) else None for name, value in found["metrics"].items()}
        click.echo(json.dumps(found | {"metrics": metrics}))
        return
    click.echo(summary.metrics(found))
