"""This machine: the bash artifact run as a process group, watched like any other run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from alignlaunch.train.config import PREFLIGHT_ONLY

from ..audit import provenance
from ..errors import LaunchError, UsageError
from ..files import write_atomic
from ..job.job import Job
from ..render.render import DEEPSPEED, TORCHRUN, Target
from ..runs import processes, runfolder
from ..runs.records import Run, Status
from .base import Rendered, Say
from .logfile import LogFile

SCHEME = "local"
#: torchrun forwards TERM and gives its workers 30 s; after that the whole group is killed.
GRACE_SECONDS = 35

#: Of a run whose turn has not come. Slurm's word for the reason.
WAITING = Status("PENDING", reason="Dependency")
_WAITING = "waiting"  # the file that says so
_PROCESS = "process.json"

#: Variables by which launchers tell processes where they are.
_OTHERS = re.compile(
    r"(MASTER_(ADDR|PORT)|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|NODE_RANK|NPROC_PER_NODE|ROLE_NAME"
    r"|(SLURM|PMI|PMIX|OMPI|PET|TORCHELASTIC)_\w+)\Z"
)

# bash outlives the signal that ends its child, so that the exit code is always written.
_WRAPPER = """trap : TERM INT HUP
bash "$@"
status=$?
echo "$status" > "$ALIGNLAUNCH_RUN_DIR/exit_code"
exit "$status"
"""


def script_name(job: Job) -> str:
    """`direct` needs srun; on one machine torchrun does the same."""
    return DEEPSPEED if job.spec.launcher == "deepspeed" else TORCHRUN


def _command(job: Job, script: str) -> list[str]:
    """The bash artifact with its arguments: every process of the job on this machine, so that the batch is the same."""
    stage = job.zero.stage if job.zero else 0
    return ["bash", script, str(stage), "1", str(job.world_size), "127.0.0.1", str(_free_port())]


def _check_machine(job: Job) -> None:
    """Raise UsageError if this machine has GPUs, but fewer than the job has processes."""
    gpus = 0 if job.cluster.device == "cpu" else _gpu_count()
    if 0 < gpus < job.world_size:
        raise UsageError(
            f"the job has {job.world_size} processes, this machine {gpus} GPUs\n"
            f"    remedy: --set nnodes=1 --set nproc_per_node={gpus}"
        )


def _wait_for_turn(run_dir: Path) -> None:
    """Mark a run that this process will start later; if this process ends before, it never will."""
    _identify(run_dir, os.getpid())
    (run_dir / _WAITING).touch()


def _start(
    job: Job, run_dir: Path, log: Path, arguments: list[str], *, preflight_only: bool = False
) -> subprocess.Popen[bytes]:
    """Start the script in a session of its own, from the job's folder, writing to `log`."""
    # The arguments say it all; what another launcher or an outer allocation left behind must not.
    env = {name: value for name, value in os.environ.items() if not _OTHERS.match(name)}
    env["ALIGNLAUNCH_RUN_DIR"] = str(run_dir)
    env.setdefault("ALIGNLAUNCH_PYTHON", sys.executable)
    if preflight_only:
        env[PREFLIGHT_ONLY] = "1"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["bash", "-c", _WRAPPER, *arguments],
            cwd=job.dir,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _identify(run_dir, process.pid)
    except OSError:  # a run that nobody could find again must not go on
        _signal(process.pid, signal.SIGKILL)
        raise
    (run_dir / _WAITING).unlink()
    return process


def _identify(run_dir: Path, pid: int) -> None:
    """Note the process that a run lives and dies with, whole at any moment: others read it."""
    write_atomic(run_dir / _PROCESS, json.dumps(processes.identity(pid)))


class LocalBackend(LogFile):
    """Status and cancel of runs on this machine. Any alignlaunch process of the user can ask."""

    scheme = SCHEME
    target: Target = "bash"
    orders_jobs = True  # alignlaunch itself starts one after the other

    def check(self, rendered: Rendered, say: Say) -> None:
        del say
        _check_machine(rendered.job)

    def script(self, rendered: Rendered) -> str:
        return rendered.files[script_name(rendered.job)]

    def dry_run(self, rendered: Rendered) -> str:
        del rendered
        return ""

    def handle_prefix(self, job: Job) -> str:
        del job
        return f"{SCHEME}://"

    def submit(self, rendered: Rendered, run: Run, after: Sequence[Run], say: Say) -> Run:
        """Queue the run: `start` begins it once it is its turn."""
        del rendered, after, say
        folder = Path(run.run_dir)
        _wait_for_turn(folder)
        return replace(run, handle=f"{SCHEME}://{folder.name}", log=str(folder / f"{run.name}.log"))

    def start(self, rendered: Rendered, run: Run) -> subprocess.Popen[bytes]:
        job, folder = rendered.job, Path(run.run_dir)
        arguments = _command(job, str(folder / script_name(job)))
        runfolder.write_provenance(folder, provenance.describe(job, self.target, rendered.files, arguments))
        return _start(job, folder, Path(run.log), arguments, preflight_only=rendered.preflight_only)

    def recover(self, handle: str) -> Run:
        """A run that the record does not know: its folder is looked for in ./runs."""
        folder = Path("runs", handle.rpartition("/")[2]).resolve()
        if not (folder / _PROCESS).is_file():
            raise UsageError(
                f"{handle}: not in the record of runs, and no {folder}\n    remedy: cd to the job's folder"
            )
        name = provenance.read(folder).get("name", "")
        return Run(handle, name, str(folder), str(folder / f"{name}.log"))

    def adopt(self, run: Run) -> Run | None:
        """The run, which its folder tells whether it ever began."""
        folder = Path(run.run_dir)
        return replace(run, handle=f"{SCHEME}://{folder.name}", log=str(folder / f"{run.name}.log"))

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        return {run.handle: self._status(run) for run in runs}

    def require_here(self, run: Run) -> None:
        """Raises UsageError for a run of another machine with the same home, until its end is known."""
        host = _host_elsewhere(run)
        if host and not self._status(run).is_final:
            raise UsageError(
                f"{run.handle}: runs on {host}, and its processes cannot be seen from here\n"
                f"    remedy: on {host}, the same command"
            )

    def cancel(self, run: Run) -> None:
        """End every process of the run: TERM, and KILL after GRACE_SECONDS. Raises as `require_here`."""
        self.require_here(run)
        folder = Path(run.run_dir)
        pid = _living_pid(folder)
        if pid is None:
            return
        (folder / "cancelled").touch()
        if (folder / _WAITING).exists():
            return
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while _living_pid(folder) is not None:
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
                break
            time.sleep(0.1)

    def kill(self, run: Run) -> None:
        """End every process of the run at once."""
        if (pid := _living_pid(Path(run.run_dir))) is not None:
            _signal(pid, signal.SIGKILL)

    def _status(self, run: Run) -> Status:
        folder = Path(run.run_dir)
        code = runfolder.exit_code(folder)
        if code is None and (host := _host_elsewhere(run)):  # its last known state may be long past
            state = run.status.state if not run.status.is_final else "RUNNING"
            return Status(state, reason=f"on {host}, whose processes cannot be seen from here")
        alive, cancelled = _living_pid(folder) is not None, (folder / "cancelled").exists()
        if (folder / _WAITING).exists():
            return Status("CANCELLED", reason="never started") if cancelled or not alive else WAITING
        if cancelled and not alive:
            return Status("CANCELLED", code)
        if code is not None:
            return Status("COMPLETED" if code == 0 else "FAILED", code)
        if alive:
            return Status("RUNNING")
        return Status("UNKNOWN", reason="the process is gone and left no exit code (killed, or the machine restarted)")


def _living_pid(folder: Path) -> int | None:
    """The run's process id, if that very process still runs; a number that was given to another does not count."""
    known = processes.read(folder / _PROCESS)
    return int(known["pid"]) if processes.lives(known) else None


def _host_elsewhere(run: Run) -> str:
    return processes.elsewhere(processes.read(Path(run.run_dir) / _PROCESS))


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise LaunchError(f"process {pid} belongs to another user") from error


def _free_port() -> int:
    """A port below the ephemeral range that nobody listens on now."""
    import random
    import socket

    for port in random.SystemRandom().sample(range(20000, 30000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LaunchError("no free port between 20000 and 30000 in 50 tries")


def _gpu_count() -> int:
    """GPUs that nvidia-smi lists, or that CUDA_VISIBLE_DEVICES allows; 0 without a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(done.stdout.splitlines()) if done.returncode == 0 else 0
