"""From a job to a run: look at what lies on disk, copy it into a run folder, submit exactly that, and record it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import audit, local, provenance, runfolder, runs, slurm
from .job import Job
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


def prepare(job: Job, target: Target, *, write: bool, require_committed: bool, say: Say) -> Prepared:
    """Make the committed folder and the job agree. Raises DriftError where they do not."""
    folder = audit.folder_of(job, target)
    files = audit.artifacts(job, target, folder)
    if done := audit.ensure(folder, files, accept=write):
        say(done)
    if require_committed:
        audit.require_committed(folder)
        audit.require_committed(job.path)
    return Prepared(job, target, folder, files)


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
        output_dir=job.output_path,
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
