"""This machine as a place to run: the rendered bash script as a process group."""

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
from ..files import append, write_atomic
from ..job.job import Job
from ..render.render import DEEPSPEED, TORCHRUN, Target
from ..runs import processes, runfolder
from ..runs.records import Run, Status
from . import gpus
from .base import Rendered, Say
from .logfile import LogFile

SCHEME = "local"
#: Seconds from TERM to KILL: the time for a step and a checkpoint.
GRACE_SECONDS = 120

#: A run whose turn has not come. The reason is named as Slurm does.
WAITING = Status("PENDING", reason="Dependency")
_WAITING = "waiting"  # a file in the run's folder until the run starts
_PROCESS = "process.json"

#: Variables by which launchers give a process its rank and its rendezvous.
_OTHERS = re.compile(
    r"(MASTER_(ADDR|PORT)|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|NODE_RANK|NPROC_PER_NODE|ROLE_NAME"
    r"|(SLURM|PMI|PMIX|OMPI|PET|TORCHELASTIC)_\w+)\Z"
)

# This outer bash survives the signals that end the script, so that it can always write the exit code.
_WRAPPER = """trap : TERM INT HUP
bash "$@"
status=$?
echo "$status" > "$ALIGNLAUNCH_RUN_DIR/exit_code"
exit "$status"
"""


def script_name(job: Job) -> str:
    """The script that starts the job. For `launcher: direct`, which needs srun, it is that of torchrun."""
    return DEEPSPEED if job.spec.launcher == "deepspeed" else TORCHRUN


def _command(job: Job, script: str) -> list[str]:
    """The script with its arguments: all processes of the job run on this machine, so the batch size stays the same."""
    stage = job.zero.stage if job.zero else 0
    return ["bash", script, str(stage), "1", str(job.world_size), "127.0.0.1", str(_free_port())]


def _check_machine(job: Job) -> None:
    """Raise UsageError if this machine has GPUs, but fewer than the job has processes."""
    there = 0 if job.cluster.device == "cpu" else gpus.here().number
    if 0 < there < job.world_size:
        raise UsageError(
            f"the job has {job.world_size} processes, this machine {there} GPUs\n"
            f"    remedy: --set nnodes=1 --set nproc_per_node={there}"
        )


def _wait_for_turn(run_dir: Path) -> None:
    """Mark a run as waiting for this process to start it. If this process ends first, the run counts as cancelled."""
    _identify(run_dir, os.getpid())
    (run_dir / _WAITING).touch()


def _start(
    job: Job, run_dir: Path, log: Path, arguments: list[str], *, preflight_only: bool = False
) -> subprocess.Popen[bytes]:
    """Start the script in a session of its own, from the job's folder, writing to `log`."""
    # Ranks and rendezvous come from the arguments only, not from an outer launcher or a Slurm allocation.
    env = {name: value for name, value in os.environ.items() if not _OTHERS.match(name)}
    env["ALIGNLAUNCH_RUN_DIR"] = str(run_dir)
    env.setdefault("ALIGNLAUNCH_PYTHON", sys.executable)
    if preflight_only:
        env[PREFLIGHT_ONLY] = "1"
    append(log, "")  # made now, with the run folder's permissions
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
    except OSError:  # without the file no command could find or cancel the run
        _signal(process.pid, signal.SIGKILL)
        raise
    (run_dir / _WAITING).unlink()
    return process


def _identify(run_dir: Path, pid: int) -> None:
    """Record the process that the run depends on. Atomic, since other alignlaunch processes read it."""
    write_atomic(run_dir / _PROCESS, json.dumps(processes.identity(pid)))


class LocalBackend(LogFile):
    """Runs on this machine. Their state is in files of the run's folder, so any alignlaunch process can read it."""

    scheme = SCHEME
    target: Target = "bash"
    orders_jobs = True  # alignlaunch itself starts one after the other

    def __init__(self, *, detach: bool = False) -> None:
        """detach: the runs are started by a process that no terminal ends."""
        self.detach = detach

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
        """Mark the run as waiting; `start` starts it when its turn comes."""
        del after, say
        folder = Path(run.run_dir)
        self._describe(rendered, folder)  # also for one that never starts
        _wait_for_turn(folder)
        return replace(run, handle=f"{SCHEME}://{folder.name}", log=str(folder / f"{run.name}.log"))

    def start(self, rendered: Rendered, run: Run) -> subprocess.Popen[bytes]:
        job, folder = rendered.job, Path(run.run_dir)
        arguments = self._describe(rendered, folder)
        return _start(job, folder, Path(run.log), arguments, preflight_only=rendered.preflight_only)

    def _describe(self, rendered: Rendered, folder: Path) -> list[str]:
        """Write what the run is made from. Returns its command, which has a port that is free now."""
        arguments = _command(rendered.job, str(folder / script_name(rendered.job)))
        runfolder.write_provenance(folder, provenance.describe(rendered.job, self.target, rendered.files, arguments))
        return arguments

    def options_of(self, run: Run) -> dict[str, str]:
        del run
        return {}

    def recover(self, handle: str) -> Run:
        """A run that is not in the record, from its folder below ./runs."""
        folder = Path("runs", handle.rpartition("/")[2]).resolve()
        if not (folder / _PROCESS).is_file():
            raise UsageError(
                f"{handle}: not in the record of runs, and no {folder}\n    remedy: cd to the job's folder"
            )
        name = provenance.read(folder).get("name", "")
        return Run(handle, name, str(folder), str(folder / f"{name}.log"))

    def adopt(self, run: Run) -> Run | None:
        """The run; whether it ever started, its folder tells `statuses`."""
        folder = Path(run.run_dir)
        return replace(run, handle=f"{SCHEME}://{folder.name}", log=str(folder / f"{run.name}.log"))

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        return {run.handle: self._status(run) for run in runs}

    def require_here(self, run: Run) -> None:
        """Raise UsageError for a run on another machine that shares this home folder, until its exit code is known."""
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

    def shell(self, run: Run, node: int, command: Sequence[str], *, terminal: bool) -> list[str]:
        """Every node is this machine. The python of the run comes first in PATH."""
        del node, terminal
        self.require_here(run)
        pid, folder = _living_pid(Path(run.run_dir)), runfolder.folder_of_job(run)
        path = os.pathsep.join(filter(None, [_python_folder(pid), os.environ.get("PATH", os.defpath)]))
        where = [f"--chdir={folder}"] if folder else []
        return ["env", *where, f"ALIGNLAUNCH_RUN_DIR={run.run_dir}", f"PATH={path}", *command]

    def kill(self, run: Run) -> None:
        """End every process of the run at once."""
        if (pid := _living_pid(Path(run.run_dir))) is not None:
            _signal(pid, signal.SIGKILL)

    def _status(self, run: Run) -> Status:
        folder = Path(run.run_dir)
        code = runfolder.exit_code(folder)
        if code is None and (why := _why_unseen(run)):  # its state may have changed since it was recorded
            return Status(run.status.state if not run.status.is_final else "RUNNING", reason=why)
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


def _why_unseen(run: Run) -> str:
    """Why a run's processes cannot be looked at; "" if they can."""
    if os.path.isdir(run.run_dir) and not os.access(run.run_dir, os.X_OK):  # noqa: PTH112 - Path.is_dir may raise
        return f"its folder {run.run_dir} is another user's alone"
    host = _host_elsewhere(run)
    return f"on {host}, whose processes cannot be seen from here" if host else ""


def _living_pid(folder: Path) -> int | None:
    """The run's process id; None if that process has ended, also if another process has the same id by now."""
    known = processes.read(folder / _PROCESS)
    return int(known["pid"]) if processes.is_running(known) else None


def _python_folder(pid: int | None) -> str:
    """Where the python of a run lies, as its process was given it; "" if that cannot be read."""
    try:
        given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    names = [os.fsdecode(one.partition(b"=")[2]) for one in given if one.startswith(b"ALIGNLAUNCH_PYTHON=")]
    return str(Path(names[0]).parent) if names and os.sep in names[0] else ""


def _host_elsewhere(run: Run) -> str:
    return processes.other_host(processes.read(Path(run.run_dir) / _PROCESS))


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise LaunchError(f"process {pid} belongs to another user") from error


def _free_port() -> int:
    """A port below the ephemeral range that is free at the moment."""
    import random
    import socket

    for port in random.SystemRandom().sample(range(20000, 30000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LaunchError("no free port between 20000 and 30000 in 50 tries")
