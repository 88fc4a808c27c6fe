"""From a job to a run: look at what lies on disk, copy it into a run folder, submit exactly that, and record it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import audit, local, provenance, runfolder, runs
from .errors import UsageError
from .job import Job
from .k8s import manifest
from .render import SBATCH, Target
from .runs import Run, Status
from .slurm import submission as slurm

if TYPE_CHECKING:
    from .k8s.client import Api

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """The artifacts of a job, on disk and agreed on."""

    job: Job
    target: Target
    folder: Path
    files: dict[str, str]
    #: Whether the run ends before the model loads. The artifacts are the same: a variable says it.
    preflight_only: bool = False


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
    with runfolder.create(job, files) as folder:
        command = slurm.command(job, folder, after, preflight_only=prepared.preflight_only)
        runfolder.write_provenance(folder, provenance.describe(job, "slurm", files, command))
        handle = slurm.submit(command, folder, files[SBATCH], say)
    log = folder / f"{job.spec.name}-{handle.rpartition('/')[2]}.out"
    return _record(job, "slurm", handle, folder, log, chain)


def submit_k8s(prepared: Prepared, say: Say, *, context: str | None, namespace: str | None) -> Run:
    """Store the manifests in the cluster, the job under a name of its own where its name is taken."""
    from .k8s import backend, submit

    job, files = prepared.job, prepared.files
    api = _api(job, context, namespace)
    with runfolder.create(job, files) as folder:
        run_id = folder.name.removeprefix(f"{job.spec.name}-")
        command = ["kubectl", f"--context={api.context}", f"--namespace={api.namespace}", "create", "-f", str(folder)]
        runfolder.write_provenance(folder, provenance.describe(job, "k8s", files, command))
        manifests = manifest.load(folder)
        if prepared.preflight_only:
            submit.make_preflight_only(manifests)
        name, stored = submit.submit(api, manifests, run_id, say)
        audit.write_atomic(folder / submit.STORED, json.dumps(stored, indent=2) + "\n")
    return _record(job, "k8s", backend.handle_of(api, name), folder, "", "")


def queue_local(prepared: Prepared, *, chain: str = "") -> Run:
    """A run on this machine that is yet to be started, by this process."""
    job = prepared.job
    with runfolder.create(job, prepared.files) as folder:
        local.wait_for_turn(folder)
    log = folder / f"{job.spec.name}.log"
    return _record(job, "bash", f"{local.SCHEME}://{folder.name}", folder, log, chain)


def start_local(prepared: Prepared, run: Run) -> subprocess.Popen[bytes]:
    """Start the bash artifact of a queued run."""
    job, folder = prepared.job, Path(run.run_dir)
    arguments = local.command(job, str(folder / local.script_name(job)))
    runfolder.write_provenance(folder, provenance.describe(job, "bash", prepared.files, arguments))
    return local.start(job, folder, Path(run.log), arguments, preflight_only=prepared.preflight_only)


def _record(job: Job, target: Target, handle: str, folder: Path, log: Path | str, chain: str) -> Run:
    run = Run(
        handle=handle,
        name=job.spec.name,
        run_dir=str(folder),
        log=str(log),
        output_dir=job.output_path(target),
        job_file=str(job.path.resolve()),
        submitted_at=provenance.now(),
        chain=chain,
        status=Status("PENDING"),
    )
    runs.save([run])
    return run


def dry_run(job: Job, files: dict[str, str]) -> str:
    """Ask sbatch, where there is one, whether it would take the script. Returns its answer."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        audit.write(Path(scratch), files)
        return slurm.test_only(job, Path(scratch)) or "no sbatch here: rendered and validated only"


def dry_run_k8s(job: Job, files: dict[str, str], context: str | None, namespace: str | None) -> str:
    """Have the API server, where there is one, look at the manifests. Returns its answer."""
    from .k8s import submit

    try:
        api = _api(job, context, namespace)
    except UsageError as error:
        if context:
            raise
        return f"no cluster here ({str(error).splitlines()[0]}): rendered and validated only"
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        audit.write(Path(scratch), files)
        submit.check(api, submit.stamped(api, manifest.load(Path(scratch)), "dry-run"))
    return f"the API server of context {api.context} would take it into namespace {api.namespace}"


def _api(job: Job, context: str | None, namespace: str | None) -> Api:
    """The namespace is the command line's, else the job's, else the context's."""
    from .k8s.client import Api

    return Api(context, namespace or (job.spec.k8s.namespace if job.spec.k8s else None))
