"""torchrun that restarts its processes, and lets them save before they stop.

`python -m alignlaunch.train.torchrun ARGUMENTS OF TORCHRUN`

torchrun itself passes SIGTERM on to its processes, as it also does when one of them has died, so that they cannot know
whether there is anything to save; and it exits with 1, as after a failed training. This one writes a request to stop.
With its default rendezvous processes meet only once; here it is one at which they meet again (`agent` restarts them).
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from . import config, finish
from .outputs.notify import telling
from .outputs.timeline import UNNAMED
from .processes import rendezvous, requests
from .processes.requests import Request

_LOG_DIR = "PET_LOG_DIR"
#: Seconds that a node waits for the others: one whose pod was replaced may be pulling its image.
_JOIN_TIMEOUT = 900


def run(arguments: list[str]) -> int:
    """Run torchrun for `alignlaunch.train JOB_FILE`. Returns the exit code; on a failure torchrun itself exits.

    128 + N after signal N; finish.STOPPED_EARLY if there is a checkpoint to go on from, and more to do. In a pod that
    is 143, too: the operator starts a pod again after that code, and not after 75.
    """
    # Blocked, so that torchrun's own handler never gets it; before torch is imported, which takes seconds.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    job_file = Path(arguments[arguments.index("alignlaunch.train") + 1])
    job = config.load(job_file)
    output_dir, run_id = Path(job.output_dir), rendezvous.run_id(os.environ) or os.environ.get("PET_RDZV_ID", UNNAMED)
    requests.withdraw(output_dir, _name())
    terminated = _pass_on(output_dir, run_id)
    os.environ[finish.SAYS_STOPPED] = "1"
    _settle_log_dir()
    os.environ.update(_meeting_point(os.environ))
    # On Slurm the batch script tells; a node that may come and go cannot know whether it is the last.
    if os.environ.get("PET_NODE_RANK", "0") == "0" and not (
        rendezvous.is_in_slurm_step(os.environ) or rendezvous.is_elastic(os.environ)
    ):
        telling.start(job, run_id, ends=("stopped", "failed"))
    code = finish.FAILED
    try:
        code = _launch(arguments, output_dir, terminated)
    finally:
        telling.ended(code)
    return code


def _launch(arguments: list[str], output_dir: Path, terminated: threading.Event) -> int:
    """Run torchrun itself. Returns the exit code as `run` does."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousError
    from torch.distributed.run import main

    from . import agent

    agent.install(output_dir, is_elastic=rendezvous.is_elastic(os.environ))
    try:
        main(arguments)
    except SignalException as received:
        return 128 + int(received.sigval)
    except RendezvousError as error:
        requests.say(f"the nodes do not meet (again), as one has failed or is gone: {error or type(error).__name__}")
        is_gone = isinstance(error, RendezvousConnectionError) or terminated.is_set()
        return 128 + signal.SIGTERM if is_gone and rendezvous.is_in_pod(os.environ) else finish.LOST
    except Exception:
        if terminated.is_set():
            return 128 + signal.SIGTERM
        raise
    if not (output_dir / requests.STOPPED).exists():
        return finish.DONE
    return 128 + signal.SIGTERM if rendezvous.is_in_pod(os.environ) else finish.STOPPED_EARLY


def _meeting_point(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of a rendezvous at which the nodes meet again after a restart.

    Node 0 is told that it is the host, as torchelastic would compare host names to find out, and often fails. Ranks go
    by the order of the nodes' addresses, which are therefore made up; only that of node 0 is ever connected to.
    """
    # Else the processes of a restart find what those before them left in the store, and connect to the dead.
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    address, rank = env.get("PET_MASTER_ADDR"), env.get("PET_NODE_RANK", "0")
    if not address or "PET_RDZV_BACKEND" in env:
        return fresh
    host = f"[{address}]" if ":" in address else address
    return fresh | {
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{host}:{env.get('PET_MASTER_PORT', '29500')}",
        "PET_RDZV_CONF": f"is_host={int(rank == '0')},join_timeout={_JOIN_TIMEOUT},read_timeout={_JOIN_TIMEOUT}",
        "PET_LOCAL_ADDR": address if rank == "0" else f"{address}~{int(rank):05}",
    }


def _pass_on(output_dir: Path, run_id: str) -> threading.Event:
    """Turn SIGTERM into a request to the processes. Returns an event that is set with the first one."""
    terminated = threading.Event()

    def listen() -> NoReturn:
        while True:
            signal.sigwait({signal.SIGTERM})
            terminated.set()
            if not _has_processes():  # it still waits for the other nodes
                finish.leave_now(128 + signal.SIGTERM)
            try:
                _ask(output_dir, run_id)
            except OSError as error:
                requests.say(f"{output_dir}: {error.strerror}: the processes cannot be asked to save")
                finish.leave_now(128 + signal.SIGTERM)

    threading.Thread(target=listen, name="requests", daemon=True).start()
    return terminated


def _ask(output_dir: Path, run_id: str) -> None:
    """Ask the processes to save and stop. An elastic job only saves, and goes on from there without this node."""
    if not rendezvous.is_elastic(os.environ):
        requests.write(output_dir, Request.STOP, run_id, _name())
        return
    requests.write(output_dir, Request.SAVE, run_id, _name())
    while requests.read(output_dir, run_id):
        time.sleep(0.2)
    finish.leave_now(128 + signal.SIGTERM)  # the kernel ends its processes with it


def _name() -> str:
    """This launcher's name, which the one that takes its place has, too: that of its pod or node, and its number."""
    return f"{platform.node()}/{os.environ.get('PET_NODE_RANK', '')}"


def _has_processes() -> bool:
    import psutil  # type: ignore[import-untyped]

    return bool(psutil.Process().children())


def _settle_log_dir() -> None:
    """Unset PET_LOG_DIR if the folder cannot be made: the log then goes to the pod's own only, and training starts."""
    wanted = os.environ.get(_LOG_DIR)
    try:
        if wanted:
            Path(wanted).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        del os.environ[_LOG_DIR]
        requests.say(f"{wanted}: no copy of the log is kept there: {error.strerror}")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
