"""From a job to a run: look at what lies on disk, copy it into a run folder, submit exactly that, and record it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from . import audit, datacheck, local, provenance, runfolder, runs, slurm
from .job import Job, looks_like_path
from .render import SBATCH, Target
from .runs import Run, Status

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """The artifacts of a job, on disk and agreed on."""

    job: Job
    target: Target
    folder: Path
    files: dict[str, str]


def prepare(
    job: Job, target: Target, *, write: bool, require_committed: bool, say: Say, check_data: bool = True
) -> Prepared:
    """Make the committed folder and the job agree. Raises DriftError where they do not, UsageError for bad data."""
    if target == "bash":
        local.check_machine(job)
    if target != "k8s":  # a pod has its secrets from the cluster, and its files from volumes
        for name in job.spec.secrets:
            if name not in os.environ:
                say(f"warning: secrets: {name} is not set in your environment; the job will not have it")
        for key, path in missing_paths(job):
            say(f"warning: {key}: {path} is not on this machine (as seen from {job.dir.resolve()})")
    for line in datacheck.check(job) if check_data else ():
        say(line)
    folder = audit.folder_of(job, target)
    files = audit.artifacts(job, target, folder)
    if done := audit.ensure(folder, files, accept=write):
        say(done)
    if require_committed:
        audit.require_committed(folder)
        audit.require_committed(job.path)
    return Prepared(job, target, folder, files)


def missing_paths(job: Job) -> list[tuple[str, str]]:
    """Keys whose value looks like a path and does not exist here: a queue is a slow way to learn of a typing error.

    "org/name" may be a hub id, so only what is absolute, begins with a dot or ends as a data file does is looked up.
    What an earlier step of the pipeline will have made is not missing.
    """
    spec = job.spec
    named = [("model", spec.model), ("tokenizer", spec.tokenizer or "")]
    named += [("data.train", source.path) for source in spec.data.sources("train")]
    named += [("data.validation", source.path) for source in spec.data.sources("validation")]
    named = [(key, path) for key, path in named if looks_like_path(path)]
    named += [(f"train.{key}", path) for key, path in job.reward_models.items()]
    return [
        (key, path)
        for key, path in named
        if not (job.dir / path).exists() and not any(PurePath(path).is_relative_to(made) for made in job.upcoming)
    ]


def submit_slurm(prepared: Prepared, say: Say, *, after: Sequence[str] = (), chain: str = "") -> Run:
    """sbatch the artifact, behind the jobs of these ids. If it fails, neither a folder nor a record stays."""
    job, files = prepared.job, prepared.files
    if job.tasks_per_node < job.spec.nproc_per_node and job.spec.slurm.cpus_per_task is None:
        say(
            "warning: no slurm.cpus_per_task: many clusters then give one CPU to all "
            f"{job.spec.nproc_per_node} processes of a node and their data loaders; 8 for each GPU is usual"
        )
    with runfolder.create(job, files) as folder:
        command = slurm.command(job, folder, after)
        runfolder.write_provenance(folder, provenance.describe(job, "slurm", files, command))
        handle = slurm.submit(command, folder, files[SBATCH])
    log = folder / f"{job.spec.name}-{handle.rpartition('/')[2]}.out"
    return _record(job, handle, folder, log, Status("PENDING"), chain)


def queue_local(prepared: Prepared, *, chain: str = "") -> Run:
    """A run on this machine that is yet to be started, by this process."""
    job = prepared.job
    with runfolder.create(job, prepared.files) as folder:
        local.wait_for_turn(folder)
    log = folder / f"{job.spec.name}.log"
    return _record(job, f"{local.SCHEME}://{folder.name}", folder, log, Status("PENDING"), chain)


def start_local(prepared: Prepared, run: Run) -> subprocess.Popen[bytes]:
    """Start the bash artifact of a queued run."""
    job, folder = prepared.job, Path(run.run_dir)
    arguments = local.command(job, str(folder / local.script_name(job)))
    runfolder.write_provenance(folder, provenance.describe(job, "bash", prepared.files, arguments))
    return local.start(job, folder, Path(run.log), arguments)


def _record(job: Job, handle: str, folder: Path, log: Path, status: Status, chain: str) -> Run:
    run = Run(
        handle=handle,
        name=job.spec.name,
        run_dir=str(folder),
        log=str(log),
        output_dir=str((job.dir / job.spec.output_dir).resolve()),
        job_file=str(job.path.resolve()),
        submitted_at=provenance.now(),
        chain=chain,
        status=status,
    )
    runs.save([run])
    return run


def dry_run(job: Job, files: dict[str, str]) -> str:
    """Ask sbatch, where there is one, whether it would take the script. Returns its answer."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        audit.write(Path(scratch), files)
        return slurm.test_only(job, Path(scratch)) or "no sbatch here: rendered and validated only"
