"""The command import: a launch script or another tool's configuration becomes a job file."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from .options import say


@click.command("import")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[-- ARGUMENT]...", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout.")
@click.option("--cluster-file", type=click.Path(path_type=Path), help="File for what belongs into a cluster profile.")
def import_(source: Path, arguments: tuple[str, ...], output: Path | None, cluster_file: Path | None) -> None:
    """Write the job file for a script of yours. Bash, sbatch, LLaMA-Factory, axolotl or TRL; read, and never run.

    ARGUMENTs are those of the script, as in `bash FILE ARGUMENT...`; NAME=VALUE ones are variables.
    """
    from ..importing import read, write

    for path in filter(None, (output, cluster_file)):
        if path.exists():
            raise UsageError(f"{path}: exists already\n    remedy: name another file")
    found = read.read(source, list(arguments))
    job, profile = write.job(found, source.name), write.profile(found)
    if profile and cluster_file is None:
        job += write.commented(profile)
    if output is None:
        click.echo(job, nl=False)
    else:
        output.write_text(job, encoding="utf-8")
    if profile and cluster_file is not None:
        cluster_file.write_text(profile, encoding="utf-8")
    for line in write.report(found):
        say(line)
    for path in filter(None, (output, cluster_file if profile else None)):
        say(f"wrote {path}")
