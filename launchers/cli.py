"""The command line. Thin: each command reads its options, calls one module, and prints."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from alignlaunch import __version__

from .errors import LaunchError, UsageError

if TYPE_CHECKING:
    from .launch import Prepared
    from .pipeline import Pipeline
    from .render import Target
    from .runs import Run

# What a command does is imported when it runs: `--help` and completion stay quick.

JOB = click.argument("job_file", metavar="JOB", type=click.Path(path_type=Path))
RUN = click.argument("run", metavar="[RUN]", default="last")
TRAINED = click.argument("run", metavar="[RUN|DIR]", default="last")
DIGEST = click.option(
    "--require-digest", is_flag=True, help="Refuse an image on Kubernetes that is not NAME@sha256:DIGEST."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--set and --cluster, which every command that reads a job file has."""
    set_ = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key: a.b=c.")
    cluster = click.option("--cluster", envvar="ALIGNLAUNCH_CLUSTER", metavar="NAME", help="Cluster profile.")
    return JOB(set_(cluster(command)))


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

    def prepare(self, pipeline: Pipeline, target: Target) -> dict[str, Prepared]:
        """Look at every step and agree on its artifacts, as far as these options want it."""
        from . import chain, precheck

        if pipeline.name and self.preflight_only:
            raise UsageError(
                f"--preflight-only: {self.job_file} is a pipeline; its later steps read what is not made yet\n"
                "    remedy: give the job file of a step"
            )
        looks = precheck.Looks(data=not self.no_data_check, memory=not self.no_plan)
        agreed = {"write": self.write, "require_committed": self.require_committed}
        prepared = chain.prepare(pipeline, target, **agreed, say=say, looks=looks)
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


class Group(click.Group):
    """Commands in the order of their definition; our errors without a traceback, with their exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LaunchError as error:
            say(f"error: {error}")
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # `alignlaunch logs | head`
            sys.stderr.close()
            ctx.exit(0)
        except OSError as error:  # no rights, no space, a name too long: wherever no module has a better word
            say(f"error: {error.filename or ''}: {error.strerror}")
            ctx.exit(2)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alignlaunch")
def main() -> None:
    """One job file to a running, audited alignment-training job."""


def say(message: str) -> None:
    """Prose goes to stderr; stdout is for the machine's line."""
    click.echo(f"alignlaunch: {message}", err=True)


def load(job_file: Path, overrides: tuple[str, ...], cluster: str | None) -> Pipeline:
    from . import pipeline, summary

    loaded = pipeline.load(job_file, overrides, cluster)
    for job in loaded.jobs.values():
        for line in summary.lines(job):
            say(line)
    return loaded


@main.command()
@click.argument("stage")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout.")
def init(stage: str, output: Path | None) -> None:
    """Write a commented starter job file for STAGE (pt, sft, rm, dpo, orpo, safe_dpo)."""
    from . import starter

    text = starter.text(stage)
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists():
        raise UsageError(f"{output}: exists already\n    remedy: name another file")
    output.write_text(text, encoding="utf-8")
    say(f"wrote {output}; its first line names the schema: `alignlaunch schema > alignlaunch.schema.json`")


@main.command()
@click.argument("kind", type=click.Choice(["job", "pipeline", "cluster"]), default="job")
def schema(kind: Any) -> None:
    """Print the JSON Schema of a job file, a pipeline file or a cluster profile, for editors."""
    from . import jsonschema

    click.echo(jsonschema.text(kind))


@main.command()
@job_options
@click.option(
    "--target",
    "targets",
    type=click.Choice(["bash", "slurm", "k8s"]),
    multiple=True,
    help="Default: all; k8s where an image is named.",
)
@DIGEST
def render(
    job_file: Path,
    overrides: tuple[str, ...],
    cluster: str | None,
    targets: tuple[Target, ...],
    require_digest: bool,
) -> None:
    """Write launch/<name>/<target>/: scripts or manifests, what the processes read, and a lock file."""
    from . import audit
    from . import render as rendering
    from .k8s import admission

    for job in load(job_file, overrides, cluster).jobs.values():
        for target in sorted({*targets} or rendering.targets(job)):
            folder = audit.folder_of(job, target)
            files = audit.artifacts(job, target, folder)
            if target == "k8s" and require_digest:
                admission.require_digest(job, files)
            audit.write(folder, files)
            click.echo(folder)


@main.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
def check(paths: tuple[Path, ...]) -> None:
    """Render every committed folder at or below PATH again. Exit 0: clean; 1: drift (diff shown); 2: error."""
    from . import audit

    drifted, failed, clean = 0, 0, 0
    for path in paths or (Path(),):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        for folder in audit.locked_folders(path if path.is_dir() else path.parent):
            try:
                diff = audit.check(folder)
            except LaunchError as error:
                say(f"error: {error}")
                failed += 1
                continue
            click.echo(diff, nl=False)
            drifted, clean = drifted + bool(diff), clean + (not diff)
    say(f"{clean} clean, {drifted} drifted, {failed} could not be checked")
    if failed:
        sys.exit(2)
    sys.exit(1 if drifted else 0)


@main.command()
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
    png: Path | None,
    as_json: bool,
    **figures: int | None,
) -> None:
    """Tell whether JOB fits in memory, what would, and what a step moves. Exit 0: it may fit; 1: it does not."""
    from . import plancommand

    wanted = plancommand.Wanted(params, figures, gpu_memory, host_memory, precision)
    plans = plancommand.make(load(job_file, overrides, cluster), wanted)
    click.echo(plancommand.shown(plans, every=every, as_json=as_json))
    if png:
        plancommand.draw(png, plans, every=every)
    sys.exit(0 if all(one.fits for one in plans) else 1)


@main.command()
@submit_options
def slurm(asked: Submission) -> None:
    """Submit JOB, a job or pipeline file, to Slurm: sbatch gets exactly the committed script."""
    from . import audit, chain, launch

    pipeline = load(asked.job_file, asked.overrides, asked.cluster)
    if asked.dry_run:
        for job in pipeline.jobs.values():
            files = audit.artifacts(job, "slurm", audit.folder_of(job, "slurm"))
            click.echo(files["job.sbatch"], nl=False)
            say(launch.dry_run(job, files))
        return
    prepared = asked.prepare(pipeline, "slurm")
    runs = chain.submit_slurm(pipeline, prepared, say)
    print_runs(pipeline, runs, asked.as_json)
    watch_runs(pipeline, runs, follow=asked.follow, wait=asked.wait)


@main.command()
@submit_options
def local(asked: Submission) -> None:
    """Run JOB, a job or pipeline file, on this machine: every process, step after step. Ctrl-C stops them all."""
    from . import audit, chain, local

    pipeline = load(asked.job_file, asked.overrides, asked.cluster)
    if asked.dry_run:
        for job in pipeline.jobs.values():
            files = audit.artifacts(job, "bash", audit.folder_of(job, "bash"))
            click.echo(files[local.script_name(job)], nl=False)
        return
    prepared = asked.prepare(pipeline, "bash")
    runs = chain.queue_local(pipeline, prepared)
    print_runs(pipeline, runs, asked.as_json)
    sys.exit(chain.run_local(prepared, runs, follow=asked.follow, say=say))


@main.command()
@submit_options
@click.option("--context", metavar="NAME", help="Context of the kubeconfig; else its current one.")
@click.option("--namespace", metavar="NAME", help="Instead of the job's or the context's.")
@DIGEST
def k8s(asked: Submission, context: str | None, namespace: str | None, require_digest: bool) -> None:
    """Submit JOB to Kubernetes: its manifests, looked at by the server first."""
    from . import audit, launch
    from .k8s import admission

    pipeline = load(asked.job_file, asked.overrides, asked.cluster)
    if pipeline.name:
        raise UsageError(
            f"{asked.job_file}: Kubernetes knows no order between jobs\n"
            "    remedy: submit the steps' job files one after the other with --wait, or the pipeline with `slurm`"
        )
    (job,) = pipeline.jobs.values()
    files = audit.artifacts(job, "k8s", audit.folder_of(job, "k8s"))
    if require_digest:
        admission.require_digest(job, files)
    if asked.dry_run:
        for name, text in files.items():
            if name.endswith(".yaml"):
                click.echo(f"---\n{text}", nl=False)
        say(launch.dry_run_k8s(job, files, context, namespace))
        return
    prepared = asked.prepare(pipeline, "k8s")
    runs = [launch.submit_k8s(prepared[job.spec.name], say, context=context, namespace=namespace)]
    print_runs(pipeline, runs, asked.as_json)
    watch_runs(pipeline, runs, follow=asked.follow, wait=asked.wait)


def print_runs(pipeline: Pipeline, runs: list[Run], as_json: bool) -> None:
    """A handle a line; as JSON an object for a job file, a list for a pipeline."""
    import json

    if as_json:
        shown = [run.as_json() for run in runs]
        click.echo(json.dumps(shown if pipeline.name else shown[0]))
    for run in runs:
        if not as_json:
            click.echo(run.handle)
        if run.log:
            say(f"log: {run.log}")


def watch_runs(pipeline: Pipeline, runs: list[Run], *, follow: bool, wait: bool) -> None:
    """--follow and --wait after a submission. Ctrl-C leaves the jobs running, and says so."""
    from . import watch

    if not (follow or wait):
        return
    ended = []
    try:
        for run in runs:
            if follow:
                for line in watch.follow(run, say, lambda _: True):
                    click.echo(line, nl=False)
                ended += watch.refresh(watch.find(run.handle))
            else:
                ended.append(watch.wait(run, say))
            if ended[-1].status.state == "COMPLETED":
                say(f"result: {run.output_dir}")
    except KeyboardInterrupt:
        say(f"stopped watching; the job goes on. To end it: alignlaunch cancel {pipeline.name or runs[0].handle}")
        sys.exit(130)
    sys.exit(exit_code(ended))


def exit_code(runs: list[Run]) -> int:
    """That of the first run that ended badly; 0 if none did."""
    return next((run.status.process_code for run in runs if run.status.process_code), 0)


@main.command("list")
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@JSON
def list_(count: int, as_json: bool) -> None:
    """List the latest runs with their states."""
    from . import runs, watch

    unanswered: list[LaunchError] = []
    show(watch.refresh(runs.load(count), unanswered.append), as_json)
    for error in unanswered:
        say(f"error: {error}\n    the states above are the last known ones")
        sys.exit(error.exit_code)


@main.command()
@RUN
@JSON
def status(run: str, as_json: bool) -> None:
    """Show the state of RUN: a handle, a job's or pipeline's name, or `last`."""
    from . import watch

    show(watch.refresh(watch.find(run)), as_json)


def show(runs: list[Run], as_json: bool) -> None:
    import json

    from . import summary

    click.echo(json.dumps([run.as_json() for run in runs]) if as_json else summary.table(runs))


@main.command()
@RUN
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--rank", type=click.IntRange(min=0), help="Only this rank's lines.")
@click.option("--node", type=click.IntRange(min=0), help="Only this node's lines.")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last N lines.")
@JSON
def logs(run: str, follow: bool, rank: int | None, node: int | None, tail: int | None, as_json: bool) -> None:
    """Print the log of RUN, all ranks in one view."""
    from . import watch

    found = [one for one in watch.find(run) if follow or watch.backend_of(one).has_log(one)]
    if not found:
        raise LaunchError(f"{run}: no log yet\n    remedy: --follow waits for it")
    for one in found:
        print_log(one, follow, rank, node, tail, as_json)


def print_log(run: Run, follow: bool, rank: int | None, node: int | None, count: int | None, as_json: bool) -> None:
    import json

    from . import watch

    wanted = watch.selector(run, rank, node)
    if follow:
        lines = watch.follow(run, say, wanted, count)
    else:
        lines = watch.backend_of(run).log(run, count, wanted, None, say)
    for line in lines:
        click.echo(json.dumps({"line": line.rstrip("\n")}) if as_json else line, nl=as_json)


@main.command()
@click.argument("run", metavar="[RUN|FOLDER]", default="last")
@JSON
def diagnose(run: str, as_json: bool) -> None:
    """Tell why RUN failed, or the run whose logs lie in FOLDER: who failed first, the cause and the remedy."""
    import json

    from .diagnose import report

    found = report.diagnose(run, say)
    if as_json:
        click.echo(json.dumps([report.as_json(name, verdict) for name, verdict in found]))
    else:
        click.echo("\n\n".join(report.as_text(name, verdict) for name, verdict in found))


@main.command()
@RUN
@JSON
@click.option("--keep", is_flag=True, help="On Kubernetes, where logs go with the pods: save them first.")
def cancel(run: str, as_json: bool, keep: bool) -> None:
    """End RUN: every process of it; of a pipeline every step."""
    from . import watch

    found = watch.find(run)
    for one in reversed(found):  # a step that waits goes before the one it waits for
        if keep:
            watch.backend_of(one).keep_log(one, say)
        watch.backend_of(one).cancel(one)
    show(watch.refresh(found), as_json)


@main.command()
@RUN
@JSON
def wait(run: str, as_json: bool) -> None:
    """Wait for RUN to end; exit with the job's own code, of a pipeline with that of the first step that failed."""
    from . import watch

    ended = [watch.wait(one, say) for one in watch.find(run)]
    if as_json:
        show(ended, as_json)
    sys.exit(exit_code(ended))


@main.command()
@TRAINED
@click.option("--merge", is_flag=True, help="Merge a LoRA adapter into its base: a whole model.")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--base", metavar="DIR", help="The adapter's base, where it is not where it was.")
def export(run: str, merge: bool, output: Path | None, base: str | None) -> None:
    """Write the weights of RUN (or of a trained folder) to DIR, as a model folder of their own."""
    from . import trained

    found = trained.find(run)
    output = output or found.folder.with_name(f"{found.folder.name}-{'merged' if merge else 'exported'}")
    arguments = [str(output.absolute()), *(["--merge"] if merge else []), *(["--base", base] if base else [])]
    trained.run(found, "alignlaunch.train.export", str(found.folder), *arguments)
    click.echo(output)


@main.command("eval")
@TRAINED
@click.option("--data", metavar="PATH", multiple=True, help="Data to evaluate on instead of the job's validation data.")
@JSON
def evaluate(run: str, data: tuple[str, ...], as_json: bool) -> None:
    """Evaluate RUN (or a trained folder) here, as its stage evaluates; also written to its eval.json."""
    import json

    from . import summary, trained

    found = trained.evaluate(trained.find(run), data)
    click.echo(json.dumps(found) if as_json else summary.metrics(found))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; e.g. eval "$(alignlaunch completion bash)"."""
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is None:  # pragma: no cover - click ships all three
        raise UsageError(f"no completion for {shell}")
    click.echo(completer(main, {}, "alignlaunch", "_ALIGNLAUNCH_COMPLETE").source())


if __name__ == "__main__":
    main()
