"""The command plan: does a job fit in memory?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .options import JSON, job_options, load


@click.command()
@job_options
@click.option("--params", metavar="32B", help="Parameters of a model that is not here; with --hidden --layers --vocab.")
@click.option("--hidden", "hidden_size", type=click.IntRange(min=1), help="Its width.")
@click.option("--layers", "num_hidden_layers", type=click.IntRange(min=1), help="Its layers.")
@click.option("--vocab", "vocab_size", type=click.IntRange(min=1), help="Its vocabulary.")
@click.option("--heads", "num_attention_heads", type=click.IntRange(min=1), help="Its attention heads (width / 128).")
@click.option("--kv-heads", "num_key_value_heads", type=click.IntRange(min=1), help="Its key and value heads.")
@click.option("--intermediate", "intermediate_size", type=click.IntRange(min=1), help="The width of its MLP.")
@click.option("--gpu-memory", type=click.FloatRange(min=0, min_open=True), help="GiB of one GPU.")
@click.option("--host-memory", type=click.FloatRange(min=0, min_open=True), help="GiB of one node.")
@click.option(
    "--precision",
    type=click.Choice(["entrypoint", "mixed", "pure-bf16"]),
    default="entrypoint",
    help="What training does, or the ZeRO paper's 16 bytes a parameter, or the documents' 8.",
)
@click.option("--all", "every", is_flag=True, help="Every alternative, also full, LoRA and QLoRA.")
@click.option("--apply", is_flag=True, help="Write what is best into JOB.")
@click.option("--png", metavar="FILE", type=click.Path(path_type=Path), help="Write the table as a picture.")
@JSON
def plan(
    job_file: Path,
    overrides: tuple[str, ...],
    cluster: str | None,
    params: str | None,
    gpu_memory: float | None,
    host_memory: float | None,
    precision: str,
    every: bool,
    apply: bool,
    png: Path | None,
    as_json: bool,
    **figures: int | None,
) -> None:
    """Tell whether JOB fits in memory. Also what would, and what a step moves. Exit 0: it may fit; 1: it does not."""
    from ..planner import command

    wanted = command.Wanted(params, figures, gpu_memory, host_memory, precision)
    plans = command.make(load(job_file, overrides, cluster), wanted)
    click.echo(command.shown(plans, every=every, as_json=as_json))
    if png:
        command.draw(png, plans, every=every)
    if apply:
        click.echo(_applied(job_file, overrides, cluster, command.settings(plans)), err=as_json)
        return
    sys.exit(1 if any(one.fits is False for one in plans) else 0)


def _applied(job_file: Path, overrides: tuple[str, ...], cluster: str | None, settings: list[str]) -> str:
    from ..errors import UsageError
    from ..job import apply

    if overrides:
        raise UsageError("--apply: with --set it is another job\n    remedy: write that into the job file first")
    return apply.write(job_file, settings, cluster) or f"{job_file}: this is the best already; nothing was written"
