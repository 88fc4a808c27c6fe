"""Slurm: sbatch gets exactly the rendered bytes (through submitit), and one query tells the state of many runs."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from . import runfolder, shell
from .errors import SchedulerError
from .job import Job
from .render import SBATCH
from .runs import Run, Status

SCHEME = "slurm"
_SEPARATOR = "\x1f"  # unit separator: no reason or node list holds one

#: Words of sbatch's refusal → the option at fault.
_FAULTS = [
    (r"partition", "--partition"),
    (r"account", "--account"),
    (r"qos", "--qos"),
    (r"time", "--time"),
    (r"gres|gpu", "--gres"),
    (r"memory", "--mem"),
    (r"node count|more nodes|nodes", "--nodes"),
    (r"cpus? count|cpus", "--cpus-per-task"),
    (r"option|--", "--"),
]


def command(job: Job, run_dir: Path) -> list[str]:
    """sbatch with what only the moment of submission knows: where to start from, where the log goes, the run's folder.

    The script's own `#SBATCH --export` lets these two variables through.
    """
    variables = [f"ALIGNLAUNCH_RUN_DIR={run_dir}", f"ALIGNLAUNCH_PYTHON={sys.executable}"]
    return ["env", *variables, "sbatch", f"--chdir={job.dir.resolve()}", f"--output={run_dir}/%x-%j.out"]


def submit(job: Job, run_dir: Path, script: str) -> str:
    """sbatch `script`, byte for byte. Returns the handle. Raises SchedulerError with sbatch's own words."""
    if shutil.which("sbatch") is None:
        raise SchedulerError("sbatch: command not found\n    remedy: run this on a login node of the cluster")
    cluster = cluster_name()
    return f"{SCHEME}://{cluster}/{_sbatch(script, run_dir, command(job, run_dir))}"


def _sbatch(script: str, run_dir: Path, command: list[str]) -> str:
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class RenderedExecutor(SlurmExecutor):
        """submitit's submission with our script in place of its generated one: no pickle, no wrapper."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return script

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            # submitit wrote the text in the locale's encoding; sbatch shall read the bytes that were rendered.
            submission_file_path.write_bytes(script.encode())
            return [*command, str(submission_file_path)]

    try:
        job: Any = RenderedExecutor(folder=run_dir)._submit_command("")
    except (FailedJobError, FailedSubmissionError) as error:
        raise refused(str(error.__cause__ or error), script) from error
    return str(job.job_id)


def test_only(job: Job, run_dir: Path) -> str | None:
    """What `sbatch --test-only` says of the script; None without an sbatch. Raises SchedulerError if it refuses."""
    if shutil.which("sbatch") is None:
        return None
    path = run_dir / SBATCH
    done = shell.run([*command(job, run_dir), "--test-only", str(path)])
    if done.returncode:
        raise refused(done.stderr, path.read_text(encoding="utf-8"))
    return done.stderr.strip()


def refused(words: str, script: str) -> SchedulerError:
    """sbatch's own words, and the line of the script that they are about."""
    said = [line for line in words.splitlines() if "sbatch:" in line] or words.strip().splitlines()[-1:]
    lines = list(enumerate(script.splitlines(), start=1))
    at_fault = ""
    for pattern, option in _FAULTS:
        if re.search(pattern, " ".join(said), re.IGNORECASE):
            found = [f"\n    {SBATCH}:{n}: {line}" for n, line in lines if line.startswith(f"#SBATCH {option}")]
            if found:
                at_fault = "".join(found)
                break
    return SchedulerError("\n".join(said) + at_fault + "\n    nothing was submitted")


def cluster_name() -> str:
    """Slurm's own name of the cluster, for handles. Raises SchedulerError if the controller is down."""
    done = shell.run(["scontrol", "show", "config"])
    match = re.search(r"^ClusterName\s*=\s*(\S+)", done.stdout, re.MULTILINE)
    if done.returncode or not match:
        raise unreachable(done.stderr)
    return match[1]


def unreachable(words: str) -> SchedulerError:
    return SchedulerError(f"{words.strip() or 'Slurm does not answer'}\n    remedy: is slurmctld up? try `scontrol ping`")


class SlurmBackend:
    """State from squeue while Slurm remembers the job, then from sacct, then from what the script itself left."""

    scheme = SCHEME

    def recover(self, handle: str) -> Run:
        """A run that the record does not know, from Slurm itself."""
        job_id = handle.rpartition("/")[2]
        done = shell.run(["scontrol", "show", "job", job_id])
        fields = dict(re.findall(r"^\s*(StdOut|JobName|SubmitTime)=(.*)$", done.stdout.replace(" JobName=", "\n JobName="), re.MULTILINE))
        if done.returncode or "StdOut" not in fields:
            return Run(handle, job_id, "", "")
        log = Path(fields["StdOut"])
        return Run(handle, fields.get("JobName", job_id), str(log.parent), str(log), submitted_at=fields.get("SubmitTime", ""))

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """One squeue for all runs; one sacct for those that squeue has forgotten."""
        by_id = {run.id: run for run in runs}
        found = _squeue(list(by_id))
        lost = [job_id for job_id in by_id if job_id not in found]
        found |= _sacct(lost) if lost else {}
        return {run.handle: found.get(job_id) or _forgotten(run) for job_id, run in by_id.items()}

    def cancel(self, run: Run) -> None:
        done = shell.run(["scancel", run.id])
        if done.returncode:
            raise SchedulerError(done.stderr.strip())


def _squeue(ids: list[str]) -> dict[str, Status]:
    form = _SEPARATOR.join(["%i", "%T", "%r", "%N"])
    done = shell.run(["squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", f"--format={form}"])
    if done.returncode and "Invalid job id" not in done.stderr:  # said when the only job asked for is forgotten
        raise unreachable(done.stderr)
    return {}


def _sacct(ids: list[str]) -> dict[str, Status]:
    return {}


def _forgotten(run: Run) -> Status:
    """Slurm has forgotten the job, and keeps no accounts: the script's own exit code is what is left."""
    code = runfolder.exit_code(Path(run.run_dir)) if run.run_dir else None
    if code is None:
        return Status("UNKNOWN", reason="Slurm has forgotten the job, accounting is off, and it left no exit code")
    return Status("COMPLETED" if code == 0 else "FAILED", code)
