"""Commands that write and check files: schema, render, check."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import LaunchError, UsageError, printable
from .options import AS, DIGEST, JSON, job_options, load, say

if TYPE_CHECKING:
    from ..render.render import Target


@click.command()
@click.argument("kind", type=click.Choice(["job", "pipeline", "cluster"]), default="job")
def schema(kind: Any) -> None:
    """Print the JSON Schema of a kind of file. With it editors complete and check a job, pipeline or cluster file."""
    from ..job import jsonschema

    click.echo(jsonschema.text(kind))


@click.command()
@job_options
@AS
@click.option(
    "--target",
    "targets",
    type=click.Choice(["bash", "slurm", "k8s"]),
    multiple=True,
    help="Default: all; k8s where an image is named.",
)
@DIGEST
@JSON
def render(
    job_file: Path,
    overrides: tuple[str, ...],
    cluster: str | None,
    named: str | None,
    targets: tuple[Target, ...],
    require_digest: bool,
    as_json: bool,
) -> None:
    """Write the files that run JOB. Scripts or manifests, what the processes read, a lock: launch/NAME/TARGET/."""
    from ..audit import drift
    from ..render import k8s_lint
    from ..render import render as rendering

    written = []
    pipeline = load(job_file, overrides, cluster, named)
    if varied := [job.spec.name for job in pipeline.jobs.values() if job.varies]:
        raise UsageError(
            f"--set: makes {', '.join(varied)}, of which only a submission has files, in its run's folder\n"
            f"    remedy: {'--set STEP.name=NAME' if pipeline.name else '--as NAME'} makes it a job of its own, in "
            "launch/NAME; to see its script: `alignlaunch slurm JOB --set ... --dry-run`"
        )
    for job in pipeline.jobs.values():
        for target in sorted({*targets} or rendering.targets(job)):
            folder = drift.folder_of(job, target)
            files = drift.artifacts(job, target, folder)
            if target == "k8s" and require_digest:
                k8s_lint.require_digest(job, files)
            drift.write(folder, files)
            written.append({"name": job.spec.name, "target": target, "folder": str(folder)})
            if not as_json:
                click.echo(folder)
    for step, points in pipeline.sweeps.items() if "slurm" in ({*targets} or {"slurm"}) else ():
        first = pipeline.jobs[points[0]]
        folder = drift.folder_of(first, "slurm").parent
        drift.write(folder, drift.array_of(pipeline, step, folder))
        written.append({"name": first.family, "target": "slurm", "folder": str(folder)})
        if not as_json:
            click.echo(folder)
    if as_json:
        click.echo(json.dumps(written))


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@JSON
def check(paths: tuple[Path, ...], as_json: bool) -> None:
    """Render every committed folder at or below PATH again. Exit 0: clean; 1: drift (diff shown); 2: error."""
    from ..audit import drift

    found = []
    for path in paths or (Path(),):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        for folder in drift.locked_folders(path if path.is_dir() else path.parent):
            try:
                found.append({"folder": str(folder), "drift": drift.check(folder), "error": ""})
            except LaunchError as error:
                found.append({"folder": str(folder), "drift": "", "error": str(error)})
                say(f"error: {error}")
            if not as_json:
                click.echo(printable(found[-1]["drift"]), nl=False)
    if as_json:
        click.echo(json.dumps(found))
    drifted, failed = (sum(bool(one[key]) for one in found) for key in ("drift", "error"))
    say(f"{len(found) - drifted - failed} clean, {drifted} drifted, {failed} could not be checked")
    if failed:
        sys.exit(2)
    sys.exit(1 if drifted else 0)
