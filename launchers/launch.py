"""From a job to a run: look at what lies on disk, copy it into a run folder, submit exactly that, and record it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alignlaunch.train.config import rewards_read
from alignlaunch.train.stages import IMPLEMENTED

from . import audit, local, provenance, runfolder, runs, slurm
from .errors import UsageError
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
    if job.spec.stage not in IMPLEMENTED:
        stages = ", ".join(sorted(IMPLEMENTED))
        raise UsageError(f"stage {job.spec.stage} cannot be trained by this version yet\n    remedy: one of {stages}")
    for key, path in missing_paths(job):
        say(f"warning: {key}: {path} is not on this machine (as seen from {job.dir.resolve()})")
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
    """
    spec = job.spec
    named = [("model", spec.model), ("tokenizer", spec.tokenizer or "")]
    named += [("data.train", path) for path in spec.data.train]
    named += [("data.validation", path) for path in spec.data.validation]
    named = [
        (key, path)
        for key, path in named
        if path.startswith((".", "/")) or path.endswith((".json", ".jsonl", ".parquet", ".txt"))
    ]
    if spec.stage == "safe_dpo":  # reward models are always folders
        rewards = [f"{name}_reward_model" for name in rewards_read(spec.train)]
        named += [(f"train.{key}", spec.train[key]) for key in rewards if spec.train.get(key)]
    return [(key, path) for key, path in named if not (job.dir / path).exists()]


def submit_slurm(prepared: Prepared, say: Say) -> Run:
    """sbatch the artifact. A submission that fails leaves neither a folder nor a record."""
    job, files = prepared.job, prepared.files
    for name in slurm.overriding_variables():
        say(f"warning: {name} in your environment wins over the script; `unset {name}` to run what is committed")
    with runfolder.create(job, files) as folder:
        runfolder.write_provenance(folder, provenance.describe(job, "slurm", files, slurm.command(job, folder)))
        handle = slurm.submit(job, folder, files[SBATCH])
    log = folder / f"{job.spec.name}-{handle.rpartition('/')[2]}.out"
    return _record(job, handle, folder, log, Status("PENDING"))


def start_local(prepared: Prepared) -> tuple[Run, subprocess.Popen[bytes]]:
    """Start the bash artifact on this machine."""
    job, files = prepared.job, prepared.files
    local.check_machine(job)
    with runfolder.create(job, files) as folder:
        arguments = local.command(job, str(folder / local.script_name(job)))
        runfolder.write_provenance(folder, provenance.describe(job, "bash", files, arguments))
        log = folder / f"{job.spec.name}.log"
        process = local.start(job, folder, log, arguments)
    return _record(job, f"{local.SCHEME}://{folder.name}", folder, log, Status("RUNNING")), process


def _record(job: Job, handle: str, folder: Path, log: Path, status: Status) -> Run:
    run = Run(
        handle=handle,
        name=job.spec.name,
        run_dir=str(folder),
        log=str(log),
        output_dir=str((job.dir / job.spec.output_dir).resolve()),
        job_file=str(job.path.resolve()),
        submitted_at=provenance.now(),
        status=status,
    )
    runs.save([run])
    return run


def dry_run(job: Job, files: dict[str, str]) -> str:
    """Ask sbatch, where there is one, whether it would take the script. Returns its answer."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        audit.write(Path(scratch), files)
        return slurm.test_only(job, Path(scratch)) or "no sbatch here: rendered and validated only"
