"""This machine: the bash artifact run as a process group, watched like any other run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from alignlaunch.train.config import PREFLIGHT_ONLY

from . import audit, provenance, runfolder
from .errors import LaunchError, UsageError
from .job import Job
from .logs import LogFile
from .render import DEEPSPEED, TORCHRUN
from .runs import Run, Status

SCHEME = "local"
#: torchrun forwards TERM and gives its workers 30 s; after that the whole group is killed.
GRACE_SECONDS = 35

#: Of a run whose turn has not come. Slurm's word for the reason.
WAITING = Status("PENDING", reason="Dependency")
_WAITING = "waiting"  # the file that says so

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


def command(job: Job, script: str) -> list[str]:
    """The bash artifact with its arguments: every process of the job on this machine, so that the batch is the same."""
    stage = job.zero.stage if job.zero else 0
    return ["bash", script, str(stage), "1", str(job.world_size), "127.0.0.1", str(_free_port())]


def check_machine(job: Job) -> None:
    """Raise UsageError if this machine has GPUs, but fewer than the job has processes."""
    gpus = 0 if job.cluster.device == "cpu" else _gpu_count()
    if 0 < gpus < job.world_size:
        raise UsageError(
            f"the job has {job.world_size} processes, this machine {gpus} GPUs\n"
            f"    remedy: --set nnodes=1 --set nproc_per_node={gpus}"
        )


def wait_for_turn(run_dir: Path) -> None:
    """Mark a run that this process will start later; if this process ends before, it never will."""
    _identify(run_dir, os.getpid())
    (run_dir / _WAITING).touch()


def start(
    job: Job, run_dir: Path, log: Path, arguments: list[str], *, preflight_only: bool = False
) -> subprocess.Popen[bytes]:
    """Start the script in a session of its own, from the job's folder, writing to `log`."""
    env = {**os.environ, "ALIGNLAUNCH_RUN_DIR": str(run_dir)}
    env.setdefault("ALIGNLAUNCH_PYTHON", sys.executable)
    if preflight_only:
        env[PREFLIGHT_ONLY] = "1"
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "NPROC_PER_NODE"):
        env.pop(name, None)  # the arguments say it all; what another launcher left behind must not
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
    audit.write_atomic(run_dir / "process.json", json.dumps({"pid": pid, "started": _start_time(pid)}))


class LocalBackend(LogFile):
    """Status and cancel of runs on this machine. Any alignlaunch process of the user can ask."""

    scheme = SCHEME

    def recover(self, handle: str) -> Run:
        """A run that the record does not know: its folder is looked for in ./runs."""
        folder = Path("runs", handle.rpartition("/")[2]).resolve()
        if not (folder / "process.json").is_file():
            raise UsageError(
                f"{handle}: not in the record of runs, and no {folder}\n    remedy: cd to the job's folder"
            )
        name = provenance.read(folder).get("name", "")
        return Run(handle, name, str(folder), str(folder / f"{name}.log"))

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        return {run.handle: self._status(Path(run.run_dir)) for run in runs}

    def require_here(self, run: Run) -> None:
        """Any folder of this machine can be looked into."""

    def cancel(self, run: Run) -> None:
        """End every process of the run: TERM, and KILL after GRACE_SECONDS."""
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

    def _status(self, folder: Path) -> Status:
        alive, cancelled = _living_pid(folder) is not None, (folder / "cancelled").exists()
        if (folder / _WAITING).exists():
            return Status("CANCELLED", reason="never started") if cancelled or not alive else WAITING
        code = runfolder.exit_code(folder)
        if cancelled and not alive:
            return Status("CANCELLED", code)
        if code is not None:
            return Status("COMPLETED" if code == 0 else "FAILED", code)
        if alive:
            return Status("RUNNING")
        return Status("UNKNOWN", reason="the process is gone and left no exit code (killed, or the machine restarted)")


def _living_pid(folder: Path) -> int | None:
    """The run's process id, if that very process still runs; a number that was given to another does not count."""
    try:
        identity = json.loads((folder / "process.json").read_text(encoding="utf-8"))
        pid = int(identity["pid"])
        started = identity["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if _start_time(pid) == started else None


def _start_time(pid: int) -> str | None:
    """When the kernel started a process, in ticks since boot (field 22 of /proc/PID/stat); None if dead or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


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
