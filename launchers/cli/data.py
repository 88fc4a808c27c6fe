"""The command data: show what a job will be trained on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from .options import JSON, job_options, load


@click.command()
@job_options
@click.option("-n", "--records", type=click.IntRange(min=0), default=1, help="Records of each source to show (1).")
@click.option(
    "--sample", type=click.IntRange(min=0), default=1000, help="Records of each source to count (1000); 0: all."
)
@JSON
def data(
    job_file: Path, overrides: tuple[str, ...], cluster: str | None, records: int, sample: int, as_json: bool
) -> None:
    """Show records of JOB as they will be trained. Their text, which tokens are learnt, what is cut or dropped."""
    from .. import showdata

    pipeline = load(job_file, overrides, cluster)
    found = {step: showdata.of(job, pipeline, records=records, sample=sample) for step, job in pipeline.jobs.items()}
    alone = len(found) == 1
    if as_json:
        click.echo(json.dumps(next(iter(found.values())) if alone else found, ensure_ascii=False))
        return
    for step, report in found.items():
        click.echo(("" if alone else f"{step}\n") + showdata.text(report, colour=sys.stdout.isatty()))
