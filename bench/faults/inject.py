"""Runs in every python of a run as its `sitecustomize`: once, one rank meets a fault, at a chosen moment.

The variable FAULT says which: `PHASE:ACTION:RANK:MARK`. RANK is `all` for each of them. MARK is a file that gets the
time when the fault happens, in seconds since 1970. This module imports nothing but the standard library until the
entrypoint has imported what is changed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The step, counted from 0, at which phases other than the first step happen: between two checkpoints.
STEP = 17
ENTRYPOINT = "alignlaunch.train"


def happens(action: str, mark: Path, rank: str) -> None:
    """Let the fault happen to this rank, unless it has."""
    try:
        os.close(os.open(f"{mark}.{rank}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    mark.write_text(str(time.time()), encoding="utf-8")
    output_dir = Path(os.environ["OUTPUT"])
    if action in ("truncate", "flip"):
        newest = max(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        damage(newest / "optimizer.pt", cut=action == "truncate")
        action = "kill"
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "kill-launcher":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    elif action == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "loop":
        while True:
            pass
    elif action == "clock":  # as when it is set right in the midst of a run
        real = time.time
        time.time = lambda: real() - 3600
    elif action == "raise":
        raise RuntimeError("an exception of nobody's making")
    elif action == "wait":  # what happens outside finds the run in this phase
        time.sleep(2)


def damage(path: Path, *, cut: bool) -> None:
    """Cut a file short, or change one bit of it."""
    data = bytearray(path.read_bytes())
    if cut:
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


def before(owner: Any, name: str, condition: Callable[..., bool], act: Callable[[], None]) -> None:
    """Have `act` called before each call of a function or method for which the condition holds."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if condition(*args):
            act()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def install(phase: str, act: Callable[[], None]) -> None:
    """Change the entrypoint once its modules are there, long before the first step."""
    session: Any = None
    while not hasattr(session, "rows"):  # its last function
        time.sleep(0.01)
        session = sys.modules.get(f"{ENTRYPOINT}.session")
    commit: Any = sys.modules[f"{ENTRYPOINT}.outputs.commit"]
    if phase == "loading":
        before(session.loading, "load_model", lambda *_: True, act)
        return
    if phase == "end":
        before(session.saving, "save", lambda *_: True, act)
        return
    saves: list[None] = []
    if phase in ("saving", "committing"):
        owner: Any = commit if phase == "saving" else commit.manifest
        name = "described" if phase == "saving" else "write"
        before(owner, name, lambda *_: saves.append(None) or len(saves) > 1, act)  # type: ignore[func-returns-value]
        return
    from alignlaunch.train.stages.trainer import StageTrainer

    if phase == "evaluation":
        before(StageTrainer, "evaluation_loop", lambda self, *_: self.state.global_step > STEP, act)
    else:
        at = 0 if phase == "first step" else STEP
        before(StageTrainer, "training_step", lambda self, *_: self.state.global_step == at, act)


if "FAULT" in os.environ and sys.orig_argv[sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else 0] == ENTRYPOINT:
    _phase, _action, _chosen, _mark = os.environ["FAULT"].split(":")
    _rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", ""))
    if _chosen in (_rank, "all"):
        _act = lambda: happens(_action, Path(_mark), _rank)  # noqa: E731
        threading.Thread(target=install, args=(_phase.replace("-", " "), _act), daemon=True).start()
