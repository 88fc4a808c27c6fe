"""A submission: sbatch gets exactly the rendered bytes (through submitit), and the user sees what it prints."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from alignlaunch.train.config import PREFLIGHT_ONLY

from ...errors import LostJobError, SchedulerError
from ...job.job import Job
from ...render.render import SBATCH
from ...runs import bad_nodes
from .. import shell
from ..base import Say
from . import answers, client
from .answers import Submitted

#: SLURM_* that sbatch itself needs to reach the controller.
_CLIENT_SETTINGS = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS"}

#: SBATCH_* that are unset, since they would override what alignlaunch relies on: the job would get the whole
#: environment of the shell, become an array, or write its log elsewhere; sbatch would wait for its end.
_OVERRULED = [f"SBATCH_{name}" for name in "EXPORT ARRAY_INX ERROR INPUT OUTPUT OPEN_MODE WAIT JOB_NAME".split()]

#: Pattern of sbatch's error message → the options that may be at fault.
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
    (r"feature specification", ("--constraint", "--prefer")),
    (r"node name", ("--nodelist", "--exclude")),
    (r"reservation", ("--reservation",)),
]


def command(job: Job, run_dir: Path, waits: str = "", *, preflight_only: bool = False) -> list[str]:
    """The sbatch command, with what is known only at submission: working directory, log, run folder.

    waits: for `--dependency`. If one of these fails, the job is cancelled: otherwise Slurm would keep it pending.

    The script's own `#SBATCH --export` passes the variables that are set here.
    """
    return [
        *_command(job, run_dir, preflight_only=preflight_only),
        f"--job-name={job.spec.name}",
        f"--output={_literal(run_dir)}/{job.spec.name}-%j.out",
        *_waiting(waits),
    ]


def indices_of(script: str, points: Collection[int]) -> str:
    """The indices for `--array`, if they are not all that the script's own line has; "" if they are."""
    line = next(line for line in script.splitlines() if line.startswith("#SBATCH --array="))
    last, percent, most = line.partition("=")[2].removeprefix("0-").partition("%")
    return "" if len(points) == int(last) + 1 else f"{','.join(map(str, points))}{percent}{most}"


def array_command(
    first: Job, whole: Path, indices: str = "", waits: str = "", *, preflight_only: bool = False
) -> list[str]:
    """The sbatch command of a sweep's array. whole: the array's folder; indices: as `--array` has them; "": all."""
    return [
        *_command(first, whole, preflight_only=preflight_only),
        f"--job-name={first.family}",
        f"--output={_literal(whole)}-%a/{first.family}-%A_%a.out",
        *([f"--array={indices}"] if indices else []),
        *_waiting(waits),
    ]


def _waiting(waits: str) -> list[str]:
    return [f"--dependency={waits}", "--kill-on-invalid-dep=yes"] if waits else []


def _literal(path: Path) -> str:
    return str(path).replace("%", "%%")


def _command(job: Job, run_dir: Path, *, preflight_only: bool) -> list[str]:
    variables = [f"ALIGNLAUNCH_RUN_DIR={run_dir}", f"ALIGNLAUNCH_PYTHON={sys.executable}"]
    variables += [f"{bad_nodes.VARIABLE}={bad_nodes.path(job.cluster.bad_nodes)}"]
    variables += [f"{PREFLIGHT_ONLY}=1"] if preflight_only else []
    # sbatch always exports SLURM_*. Unset those of an enclosing salloc, or they reconfigure the job's srun.
    inherited = [name for name in sorted(os.environ) if name.startswith("SLURM_") and name not in _CLIENT_SETTINGS]
    return [
        "env",
        *(f"--unset={name}" for name in (*_OVERRULED, *inherited)),
        *variables,
        "sbatch",
        f"--chdir={job.dir.resolve()}",
        *([f"--exclude={','.join(left_out)}"] if (left_out := excluded(job)) else []),
    ]


def excluded(job: Job) -> list[str]:
    """The nodes to leave out: those that were found faulty, and the job's own (the command's option replaces its line).

    Empty if none was, or if the job names its nodes itself.
    """
    bad = bad_nodes.names(job.cluster.bad_nodes)
    own = [option.partition("=") for option in job.spec.slurm.extra]
    if not bad or any(name == "--nodelist" for name, _, _ in own):
        return []
    return [*(value for name, _, value in own if name == "--exclude"), *bad]


def submit(command: list[str], path: Path, script: str, say: Say) -> str:
    """Run `command` on the run folder's copy of `script`, which is at `path`. Returns the handle.

    say: gets what else sbatch prints.

    Raises SchedulerError with sbatch's message.
    """
    for name in ("sbatch", "srun"):  # submitit requires srun as well
        if shutil.which(name) is None:
            raise SchedulerError(f"{name}: command not found\n    remedy: run this on a login node of the cluster")
    here = client.here()
    doubt = _refusal_of_test(command, path)
    accepted = _sbatch(script, command, path)
    if accepted.messages:
        say(accepted.messages)
    if doubt:
        say(f"warning: sbatch took the job, though `sbatch --test-only` says: {doubt}; as things are now it will wait")
    return f"{client.SCHEME}://{accepted.cluster or here}/{accepted.job_id}"


def _sbatch(script: str, command: list[str], path: Path) -> Submitted:
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    answer = ""

    class RenderedExecutor(SlurmExecutor):
        """submitit's submission of our script instead of the one that it generates around a pickled function."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return ""

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            # submitit drops the stderr of a successful sbatch: warnings, and messages of the site.
            return ["/bin/sh", "-c", 'exec "$@" 2>&1', "sbatch", *command, str(path)]

        @staticmethod
        def _get_job_id_from_submission_command(string: bytes | str) -> str:
            nonlocal answer
            answer = str(string)
            accepted = answers.submitted(answer)
            if accepted is None:
                raise FailedSubmissionError(answer)
            return accepted.job_id

    # A scratch folder: nobody needs submitit's own files, and it would expand a %j or %t in the run folder's path.
    with TemporaryDirectory(prefix="alignlaunch-") as scratch:
        try:
            RenderedExecutor(folder=scratch)._submit_command("")
        except FailedJobError as error:
            raise refused(getattr(error.__cause__, "output", str(error)), script, path.name) from error
        except FailedSubmissionError as error:
            raise _lost(answer) from error
        except OSError:  # from submitit's own files, maybe after sbatch accepted the job
            if answers.submitted(answer) is None:
                raise
    accepted = answers.submitted(answer)
    if accepted is None:
        raise _lost(answer)
    return accepted


def _lost(answer: str) -> LostJobError:
    return LostJobError(
        f"sbatch took the script, but its answer names no job: {answer!r}\n    remedy: look for it with `squeue --me`"
    )


def overriding_variables() -> list[str]:
    """SBATCH_* variables of this shell that sbatch lets override the script's lines, for a warning."""
    return sorted(name for name in os.environ if name.startswith("SBATCH_") and name not in _OVERRULED)


def test_only(command: list[str], path: Path) -> str | None:
    """The answer of `sbatch --test-only` to a script; None without sbatch. Raises SchedulerError if it refuses."""
    if shutil.which("sbatch") is None:
        return None
    done = shell.run([*command, "--test-only", str(path)])
    if done.returncode:
        raise refused(done.stderr, path.read_text(encoding="utf-8"), path.name)
    return done.stderr.strip()


def _refusal_of_test(command: list[str], path: Path) -> str:
    """Why `sbatch --test-only` refuses a script, in one line; "" if it does not.

    sbatch itself accepts a job that no node can run now. It then waits for a node that is down, or for ever.
    """
    done = shell.run([*command, "--test-only", str(path)])
    return " ".join(done.stderr.split()) if done.returncode else ""


def refused(words: str, script: str, name: str = SBATCH) -> SchedulerError:
    """sbatch's message, and the lines of the script that it is about."""
    message = "\n".join(line for line in words.splitlines() if line.strip())
    options = next((options for pattern, options in _FAULTS if re.search(pattern, message)), ())
    # sbatch quotes an option that it does not know: "unrecognized option '--frobnicate=1'".
    options = (*options, *re.findall(r"option '(--[\w-]+)", message))
    numbered = enumerate(script.splitlines(), start=1)
    lines = [f"\n    {name}:{n}: {line}" for n, line in numbered if _option_of(line) in options]
    return SchedulerError(f"{message}{''.join(lines)}\n    nothing was submitted")


def _option_of(line: str) -> str:
    match = re.match(r"#SBATCH (--[\w-]+)", line)
    return match[1] if match else ""
