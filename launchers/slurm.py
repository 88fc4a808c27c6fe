"""Slurm: sbatch gets exactly the rendered bytes (through submitit), and one query tells the state of many runs."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignlaunch.train.config import PREFLIGHT_ONLY

from . import runfolder, shell
from .errors import LostJobError, SchedulerError, UsageError
from .job import Job
from .logs import LogFile
from .render import SBATCH
from .runs import FINAL, Run, Status

SCHEME = "slurm"

#: SLURM_* that sbatch itself needs to reach its controller.
_CLIENT_SETTINGS = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS"}

#: Words of sbatch's refusal → the options that may be at fault.
_FAULTS = [
    (r"partition name|partition specified", ("--partition",)),
    (r"account", ("--account", "--partition")),
    (r"qos", ("--qos",)),
    (r"--time|time limit", ("--time",)),
    (r"--signal", ("--signal",)),
    (r"\(gres\)", ("--gres",)),
    (r"[Mm]emory", ("--mem",)),
    (r"node configuration", ("--nodes", "--gres", "--cpus-per-task", "--mem", "--ntasks-per-node")),
    (r"node count", ("--nodes",)),
]


def command(job: Job, run_dir: Path, after: Sequence[str] = (), *, preflight_only: bool = False) -> list[str]:
    """sbatch with what only the moment of submission knows: where to start from, where the log goes, the run's folder,
    and the ids of the jobs to wait for. If one of those fails, this job is cancelled: Slurm would keep it for ever.

    The script's own `#SBATCH --export` lets these variables through.
    """
    variables = [f"ALIGNLAUNCH_RUN_DIR={run_dir}", f"ALIGNLAUNCH_PYTHON={sys.executable}"]
    variables += [f"{PREFLIGHT_ONLY}=1"] if preflight_only else []
    # SBATCH_EXPORT would win over the script's --export, and the whole shell would leak into the job. SLURM_* passes
    # any --export: those of an allocation that this shell stands in would steer the job's own srun.
    inherited = [name for name in sorted(os.environ) if name.startswith("SLURM_") and name not in _CLIENT_SETTINGS]
    return [
        "env",
        *(f"--unset={name}" for name in ("SBATCH_EXPORT", *inherited)),
        *variables,
        "sbatch",
        f"--chdir={job.dir.resolve()}",
        f"--output={str(run_dir).replace('%', '%%')}/%x-%j.out",
        *([f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"] if after else []),
    ]


def submit(command: list[str], run_dir: Path, script: str) -> str:
    """Run `command` on `script`, byte for byte. Returns the handle. Raises SchedulerError with sbatch's own words."""
    for name in ("sbatch", "srun"):  # submitit asks for srun as well
        if shutil.which(name) is None:
            raise SchedulerError(f"{name}: command not found\n    remedy: run this on a login node of the cluster")
    cluster = cluster_name()
    return f"{SCHEME}://{cluster}/{_sbatch(script, run_dir, command)}"


def _sbatch(script: str, run_dir: Path, command: list[str]) -> str:
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class RenderedExecutor(SlurmExecutor):
        """submitit's submission with our script in place of its generated one: no pickle, no wrapper."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return ""  # submitit would write it in the locale's encoding

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            submission_file_path.write_bytes(script.encode())
            return [*command, str(submission_file_path)]

    try:
        with redirect_stderr(io.StringIO()):  # submitit prints the refusal; we report it, with the line at fault
            job: Any = RenderedExecutor(folder=run_dir)._submit_command("")
    except FailedJobError as error:
        raise refused(str(error), script) from error
    except FailedSubmissionError as error:
        raise LostJobError(
            f"sbatch took the script, but its answer names no job: {error}\n    remedy: look for it with `squeue --me`"
        ) from error
    return str(job.job_id)


def overriding_variables() -> list[str]:
    """SBATCH_* variables of this shell: sbatch lets them win over the script's own lines, so they are worth a word."""
    return sorted(name for name in os.environ if name.startswith("SBATCH_") and name != "SBATCH_EXPORT")


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
    """sbatch's own words, and the lines of the script that they are about."""
    said = "\n".join(line for line in words.splitlines() if line.strip())
    options = next((options for pattern, options in _FAULTS if re.search(pattern, said)), ())
    # An option that sbatch does not know is quoted in its words: "unrecognized option '--frobnicate=1'".
    options = (*options, *re.findall(r"option '(--[\w-]+)", said))
    numbered = enumerate(script.splitlines(), start=1)
    lines = [f"\n    {SBATCH}:{n}: {line}" for n, line in numbered if _option_of(line) in options]
    return SchedulerError(f"{said}{''.join(lines)}\n    nothing was submitted")


def _option_of(line: str) -> str:
    match = re.match(r"#SBATCH (--[\w-]+)", line)
    return match[1] if match else ""


def cluster_name() -> str:
    """Slurm's own name of the cluster, for handles. Raises SchedulerError if the controller is down."""
    done = shell.run(["scontrol", "show", "config"])
    match = re.search(r"^ClusterName\s*=\s*(\S+)", done.stdout, re.MULTILINE)
    if done.returncode or not match:
        raise unreachable(done.stderr)
    return match[1]


def unreachable(words: str) -> SchedulerError:
    return SchedulerError(
        f"{words.strip() or 'Slurm does not answer'}\n    remedy: is slurmctld up? try `scontrol ping`"
    )


class SlurmBackend(LogFile):
    """State from squeue while Slurm remembers the job, then from sacct, then from what the script itself left."""

    scheme = SCHEME

    def recover(self, handle: str) -> Run:
        """A run that the record does not know, from Slurm itself."""
        job_id = handle.rpartition("/")[2]
        if not job_id.isdigit():
            raise UsageError(f"{handle}: not a Slurm handle\n    remedy: slurm://CLUSTER/JOBID")
        shown = shell.run(["scontrol", "show", "job", job_id]).stdout
        name = re.search(r"^JobId=\S+ JobName=(.*)$", shown, re.MULTILINE)
        log = re.search(r"^ +StdOut=(.*)$", shown, re.MULTILINE)
        submitted = re.search(r"\bSubmitTime=(\S+)", shown)
        path = Path(log[1]) if log else None
        return Run(
            handle,
            name[1] if name else "",
            run_dir=str(path.parent) if path else "",
            log=str(path) if path else "",
            submitted_at=submitted[1] if submitted else "",
        )

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """One squeue for all runs; one sacct for those that squeue has forgotten."""
        answers = {answer[0]: answer for answer in _squeue([run.id for run in runs])}
        if forgotten := [run.id for run in runs if _answer_for(run, answers) is None]:
            answers |= {answer[0]: answer for answer in _sacct(forgotten)}
        found = {run.handle: _with_own_code(run, _answer_for(run, answers)) for run in runs}
        lost = [run for run in runs if found[run.handle] is None]
        here = cluster_name() if lost else ""
        return {handle: status for handle, status in found.items() if status} | {
            run.handle: _LOST if _cluster_of(run) == here else replace(run.status, reason=f"not seen from {here}")
            for run in lost
        }

    def require_here(self, run: Run) -> None:
        cluster, here = _cluster_of(run), cluster_name()
        if cluster != here:
            remedy = f"ask on a login node of {cluster}"
            raise UsageError(f"{run.handle}: a job of cluster {cluster}; this is {here}\n    remedy: {remedy}")

    def cancel(self, run: Run) -> None:
        self.require_here(run)  # the same number is another job here
        done = shell.run(["scancel", run.id])
        if done.returncode:
            raise unreachable(done.stderr)


_LOST = Status("UNKNOWN", reason="Slurm has forgotten the job, keeps no accounts, and it left no exit code")


def _cluster_of(run: Run) -> str:
    return run.handle.removeprefix(f"{SCHEME}://").partition("/")[0]


def _answer_for(run: Run, answers: dict[str, tuple[str, str, Status]]) -> Status | None:
    """The answer about a run: another cluster, or this one after its ids began anew, has other jobs of the same ids."""
    _, name, status = answers.get(run.id, ("", "", None))
    return status if run.name in (name, "") else None


def _squeue(ids: list[str]) -> list[tuple[str, str, Status]]:
    """(id, name, status) of the jobs that slurmctld remembers: waiting, running, and ended in the last minutes."""
    fields = "JobID:|,Name:128|,State:|,Reason:|,exit_code:|,NodeList:1024|"
    done = shell.run(["squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", f"--Format={fields}"])
    if done.returncode and "Invalid job id" not in done.stderr:  # said when the only job asked for is forgotten
        raise unreachable(done.stderr)
    found = []
    for line in done.stdout.splitlines():
        job_id, name, state, reason, wait_status, nodes, *_ = (part.strip() for part in line.split("|"))
        ended = state in FINAL
        code = os.waitstatus_to_exitcode(int(wait_status)) if ended else None
        known = "" if reason == "None" else reason
        found.append((job_id, name, Status(state, code if code is None or code >= 0 else 128 - code, known, nodes)))
    return found


def _sacct(ids: list[str]) -> list[tuple[str, str, Status]]:
    """(id, name, status) of the jobs that the accounting knows; none where it is off."""
    fields = "JobIDRaw,JobName,State,ExitCode,Reason,NodeList"
    done = shell.run(
        ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(ids)}", f"--format={fields}"]
    )
    found = []
    for line in done.stdout.splitlines() if done.returncode == 0 else []:
        job_id, name, state, codes, reason, nodes = line.split("|")
        state = state.split()[0].rstrip("+")  # "CANCELLED by 1000"
        code, _, signal = codes.partition(":")
        exit_code = 128 + int(signal or 0) if int(signal or 0) else int(code)
        if nodes == "None assigned":
            nodes = ""
        else:
            reason = ""  # sacct's is what kept the job waiting, long past when it has begun
        found.append((job_id, name, Status(state, exit_code if state in FINAL else None, reason, nodes)))
    return found


def _with_own_code(run: Run, status: Status | None) -> Status | None:
    """The exit code that the script wrote itself: Slurm's tools report 143 of a neighbour as 15, or not at all."""
    code = runfolder.exit_code(Path(run.run_dir)) if run.run_dir else None
    if status is None:
        return None if code is None else Status("COMPLETED" if code == 0 else "FAILED", code)
    if status.is_final and status.state != "COMPLETED":
        return replace(status, exit_code=code or status.exit_code or None)  # cancelled while it waited: 0 is no code
    return status
