"""From a job to a run: look at what lies on disk, copy it into a run folder, submit exactly that, and record it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..audit import drift, provenance
from ..backends import local
from ..backends.slurm import submission as slurm
from ..backends.slurm.backend import SCHEME as SLURM
from ..errors import LaunchError, LostJobError, UsageError
from ..files import write_atomic
from ..job import cluster
from ..job.job import Job
from ..render import k8s_manifest
from ..render.render import SBATCH, Target
from ..runs import claim, processes, records, runfolder
from ..runs.records import Run, Status
from ..watch import states

if TYPE_CHECKING:
    from ..backends.k8s.client import Api

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


def prepare(job: Job, target: Target, *, write: bool, require_committed: bool, say: Say, dry: bool = False) -> Prepared:
    """Make the committed folder and the job agree. Raises DriftError where they do not. dry: writes nothing."""
    folder = drift.folder_of(job, target)
    files = drift.artifacts(job, target, folder)
    if done := drift.ensure(folder, files, accept=write, dry=dry):
        say(done)
    if require_committed:
        drift.require_committed(folder)
        drift.require_committed(job.path)
        if job.cluster_name:
            drift.require_committed(cluster.find(job.cluster_name, job.dir))
    return Prepared(job, target, folder, files)


def submit_slurm(prepared: Prepared, say: Say, *, after: Sequence[str] = (), chain: str = "") -> Run:
    """sbatch the artifact, behind the jobs of these ids. If it fails, neither a folder nor a record stays."""
    job, files = prepared.job, prepared.files
    with _opened(prepared, f"{SLURM}://", chain) as run:
        folder = Path(run.run_dir)
        command = slurm.command(job, folder, after, preflight_only=prepared.preflight_only)
        runfolder.write_provenance(folder, provenance.describe(job, "slurm", files, command))
        handle = slurm.submit(command, folder, files[SBATCH], say)
    return _accepted(run, handle, folder / f"{job.spec.name}-{handle.rpartition('/')[2]}.out")


def submit_k8s(prepared: Prepared, say: Say, *, context: str | None, namespace: str | None) -> Run:
    """Store the manifests in the cluster, the job under a name of its own where its name is taken."""
    from ..backends.k8s import backend, submit

    job, files = prepared.job, prepared.files
    api = _api(job, context, namespace)
    with _opened(prepared, f"{backend.SCHEME}://{api.context}/{api.namespace}/", "") as run:
        folder = Path(run.run_dir)
        command = ["kubectl", f"--context={api.context}", f"--namespace={api.namespace}", "create", "-f", str(folder)]
        runfolder.write_provenance(folder, provenance.describe(job, "k8s", files, command))
        manifests = k8s_manifest.load(folder)
        if prepared.preflight_only:
            submit.make_preflight_only(manifests)
        name, stored = submit.submit(api, manifests, run.label, say)
    try:
        write_atomic(folder / submit.STORED, json.dumps(stored, indent=2) + "\n")
    except OSError as error:  # the job is in the cluster: nothing of its run may go any more
        say(f"warning: {folder / submit.STORED}: not written: {error.strerror}")
    return _accepted(run, backend.handle_of(api, name), "")


def queue_local(prepared: Prepared, *, chain: str = "") -> Run:
    """A run on this machine that is yet to be started, by this process."""
    with _opened(prepared, f"{local.SCHEME}://", chain) as run:
        folder = Path(run.run_dir)
        local.wait_for_turn(folder)
    return _accepted(run, f"{local.SCHEME}://{folder.name}", folder / f"{run.name}.log")


def start_local(prepared: Prepared, run: Run) -> subprocess.Popen[bytes]:
    """Start the bash artifact of a queued run."""
    job, folder = prepared.job, Path(run.run_dir)
    arguments = local.command(job, str(folder / local.script_name(job)))
    runfolder.write_provenance(folder, provenance.describe(job, "bash", prepared.files, arguments))
    return local.start(job, folder, Path(run.log), arguments, preflight_only=prepared.preflight_only)


@contextmanager
def _opened(prepared: Prepared, place: str, chain: str) -> Iterator[Run]:
    """A run that is about to be submitted: its folder, its claim on the output folder, its row in the record.

    All of it is there before the scheduler is asked, so that nothing that it takes is ever unknown; all of it goes
    again where it refuses. place: SCHEME://, with whatever the handle will begin with.
    """
    job = prepared.job
    with runfolder.create(job, prepared.files) as folder:
        run = Run(
            handle=records.handle_before(place, folder.name),
            name=job.spec.name,
            run_dir=str(folder),
            log="",
            output_dir=job.output_path(prepared.target),
            job_file=str(job.path.resolve()),
            submitted_at=provenance.now(),
            chain=chain,
            status=Status("SUBMITTING"),
        )
        write_atomic(folder / states.SUBMITTER, json.dumps(processes.identity()))
        try:
            # A pod's output folder is seen from here only where both see the same file system.
            if not prepared.preflight_only and (prepared.target != "k8s" or Path(run.output_dir).is_dir()):
                claim.take(run, _ended_owner(run.output_dir))
            records.save([run])
            yield run
        except LostJobError:
            raise
        except (LaunchError, OSError):
            records.forget(run.handle)
            claim.release(run)
            raise


def _ended_owner(folder: str) -> Run | None:
    """The run that had the folder before. Raises UsageError where it has it still."""
    had = claim.owner(folder)
    if had is None:
        return None
    unanswered: dict[str, LaunchError] = {}
    now = states.refresh([had], unanswered)[0]
    if not (now.status.is_final or unanswered):  # where nobody knows, the checks before have said so
        raise claim.taken(now, folder)
    return had


def _accepted(run: Run, handle: str, log: Path | str) -> Run:
    """The scheduler has the run, under a handle of its own."""
    named = replace(run, handle=handle, log=str(log), status=Status("PENDING"))
    records.replace_row(run.handle, named)
    claim.update(named)
    with suppress(OSError):
        (Path(run.run_dir) / states.SUBMITTER).unlink()
    return named


def dry_run(job: Job, files: dict[str, str]) -> str:
    """Ask sbatch, where there is one, whether it would take the script. Returns its answer."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        drift.write(Path(scratch), files)
        return slurm.test_only(job, Path(scratch)) or "no sbatch here: rendered and validated only"


def dry_run_k8s(job: Job, files: dict[str, str], context: str | None, namespace: str | None) -> str:
    """Have the API server, where there is one, look at the manifests. Returns its answer."""
    from ..backends.k8s import submit

    try:
        api = _api(job, context, namespace)
    except UsageError as error:
        if context:
            raise
        return f"no cluster here ({str(error).splitlines()[0]}): rendered and validated only"
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        drift.write(Path(scratch), files)
        submit.check(api, submit.stamped(api, k8s_manifest.load(Path(scratch)), "dry-run"))
    return f"the API server of context {api.context} would take it into namespace {api.namespace}"


def _api(job: Job, context: str | None, namespace: str | None) -> Api:
    """The namespace is the command line's, else the job's, else the context's."""
    from ..backends.k8s.client import Api

    return Api(context, namespace or (job.spec.k8s.namespace if job.spec.k8s else None))
