"""slurm, local, k8s: from a job or pipeline file to runs."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import UsageError
from .options import DIGEST, JSON, exit_code, job_options, load, say

if TYPE_CHECKING:
    from ..job.pipeline import Pipeline
    from ..render.render import Target
    from ..runs.records import Run
    from ..submit.submission import Prepared


class Submission(NamedTuple):
    """The options that `slurm`, `local` and `k8s` have in common."""

    job_file: Path
    overrides: tuple[str, ...]
    cluster: str | None
    write: bool
    require_committed: bool
    no_data_check: bool
    no_plan: bool
    preflight_only: bool
    dry_run: bool
    follow: bool
    wait: bool
    as_json: bool

    def load(self) -> Pipeline:
        return load(self.job_file, self.overrides, self.cluster)

    def prepare(self, pipeline: Pipeline, target: Target) -> dict[str, Prepared]:
        """Look at every step and agree on its artifacts, as far as these options want it."""
        from ..submit import checks, steps

        if self.preflight_only:
            if pipeline.name:
                raise UsageError(
                    f"--preflight-only: {self.job_file} is a pipeline; its later steps read what is not made yet\n"
                    "    remedy: give the job file of a step"
                )
            (job,) = pipeline.jobs.values()
            checks.require_preflight(job, target)
        looks = checks.Looks(data=not self.no_data_check, memory=not self.no_plan)
        agreed = {"write": self.write, "require_committed": self.require_committed}
        prepared = steps.prepare(pipeline, target, **agreed, say=say, looks=looks, dry=self.dry_run)
        return {step: replace(one, preflight_only=self.preflight_only) for step, one in prepared.items()}


def submit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command a Submission, and behind it whatever other options it has."""
    options = [
        click.option("--write", is_flag=True, help="Accept the new rendering where it differs from the one on disk."),
        click.option(
            "--require-committed", is_flag=True, help="Refuse unless git has script and job file as they are."
        ),
        click.option("--no-data-check", is_flag=True, help="Do not read the data that this machine sees."),
        click.option("--no-plan", is_flag=True, help="Do not refuse what cannot fit in memory."),
        click.option("--preflight-only", is_flag=True, help="Let the nodes meet and compare; train nothing."),
        click.option("--dry-run", is_flag=True, help="Print the script; write and submit nothing."),
        click.option("--follow", is_flag=True, help="Show the log until the end."),
        click.option("--wait", is_flag=True, help="Return when the run has ended, with its exit code."),
        JSON,
    ]

    @functools.wraps(command)
    def with_submission(**given: Any) -> Any:
        return command(Submission(**{name: given.pop(name) for name in Submission._fields}), **given)

    for option in reversed(options):
        with_submission = option(with_submission)
    return job_options(with_submission)


@click.command()
@submit_options
def slurm(asked: Submission) -> None:
    """Submit JOB, a job or pipeline file, to Slurm: sbatch gets exactly the committed script."""
    from ..audit import drift
    from ..submit import steps, submission

    pipeline = asked.load()
    if asked.dry_run:
        for job in pipeline.jobs.values():
            files = drift.artifacts(job, "slurm", drift.folder_of(job, "slurm"))
            click.echo(files["job.sbatch"], nl=False)
    prepared = asked.prepare(pipeline, "slurm")
    if asked.dry_run:
        for one in prepared.values():
            say(submission.dry_run(one.job, one.files))
        return
    runs = steps.submit_slurm(pipeline, prepared, say)
    print_runs(pipeline, runs, asked.as_json)
    watch_runs(pipeline, runs, asked)


@click.command()
@submit_options
def local(asked: Submission) -> None:
    """Run JOB, a job or pipeline file, on this machine: every process, step after step. Ctrl-C stops them all."""
    from ..audit import drift
    from ..backends import local
    from ..submit import steps

    pipeline = asked.load()
    if asked.dry_run:
        for job in pipeline.jobs.values():
            files = drift.artifacts(job, "bash", drift.folder_of(job, "bash"))
            click.echo(files[local.script_name(job)], nl=False)
    prepared = asked.prepare(pipeline, "bash")
    if asked.dry_run:
        return
    runs = steps.queue_local(pipeline, prepared)
    print_runs(pipeline, runs, asked.as_json)
    sys.exit(steps.run_local(prepared, runs, follow=asked.follow, say=say))


@click.command()
@submit_options
@click.option("--context", metavar="NAME", help="Context of the kubeconfig; else its current one.")
@click.option("--namespace", metavar="NAME", help="Instead of the job's or the context's.")
@DIGEST
def k8s(asked: Submission, context: str | None, namespace: str | None, require_digest: bool) -> None:
    """Submit JOB to Kubernetes: its manifests, looked at by the server first."""
    from ..audit import drift
    from ..render import k8s_lint
    from ..submit import submission

    pipeline = asked.load()
    if pipeline.name:
        raise UsageError(
            f"{asked.job_file}: Kubernetes knows no order between jobs\n"
            "    remedy: submit the steps' job files one after the other with --wait, or the pipeline with `slurm`"
        )
    (job,) = pipeline.jobs.values()
    files = drift.artifacts(job, "k8s", drift.folder_of(job, "k8s"))
    if require_digest:
        k8s_lint.require_digest(job, files)
    if asked.dry_run:
        for name, text in files.items():
            if name.endswith(".yaml"):
                click.echo(f"---\n{text}", nl=False)
    prepared = asked.prepare(pipeline, "k8s")
    if asked.dry_run:
        say(submission.dry_run_k8s(job, files, context, namespace))
        return
    runs = [submission.submit_k8s(prepared[job.spec.name], say, context=context, namespace=namespace)]
    print_runs(pipeline, runs, asked.as_json)
    watch_runs(pipeline, runs, asked)


def print_runs(pipeline: Pipeline, runs: list[Run], as_json: bool) -> None:
    """A handle a line; as JSON an object for a job file, a list for a pipeline."""
    if as_json:
        shown = [run.as_json() for run in runs]
        click.echo(json.dumps(shown if pipeline.name else shown[0]))
    for run in runs:
        if not as_json:
            click.echo(run.handle)
        if run.log:
            say(f"log: {run.log}")


def watch_runs(pipeline: Pipeline, runs: list[Run], asked: Submission) -> None:
    """--follow and --wait after a submission. Ctrl-C leaves the jobs running, and says so."""
    from ..watch import states
    from . import summary

    if not (asked.follow or asked.wait):
        return
    ended = []
    try:
        for run in runs:
            if asked.follow:
                for line in states.follow(run, say, lambda _: True):
                    click.echo(line, nl=False)
                ended += states.refresh(states.find(run.handle))
            else:
                ended.append(states.wait(run, say))
            if ended[-1].status.state == "COMPLETED":
                say(summary.result(run, preflight_only=asked.preflight_only))
    except KeyboardInterrupt:
        say(f"stopped watching; the job goes on. To end it: alignlaunch cancel {pipeline.name or runs[0].handle}")
        sys.exit(130)
    sys.exit(exit_code(ended))
