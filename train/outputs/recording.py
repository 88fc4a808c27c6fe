"""Recording the timeline of an attempt, on rank 0: each change of phase at once, so that a kill loses none."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import finish, trained_folder
from ..processes import requests
from ..processes.beats import beats
from ..processes.rendezvous import Rendezvous
from . import goodput, timeline

#: `BEGAN [QUEUED]`, in seconds since 1970: when the script of the attempt began, and when it was queued.
BEGAN = "ALIGNLAUNCH_BEGAN"
_OUTCOMES = {finish.DONE: "completed", finish.STOPPED_EARLY: "stopped"}


class Recording:
    """The recording of this process, the one that writes: `recording`. A file that cannot be written ends it."""

    def __init__(self) -> None:
        #: The output folder; None: nothing is recorded.
        self._output_dir: Path | None = None
        self._run = ""
        #: How the attempt before this one of the same run ended; None: there was none.
        self.before: str | None = None

    def start(self, output_dir: Path, place: Rendezvous) -> None:
        """Record from now on. place: that of rank 0."""
        self._output_dir = output_dir
        queued, began = began_at(os.environ, place.dialect)
        self._run = timeline.name(place.run_id, began)
        if before := timeline.read(output_dir, self._run):
            self.before = before[-1].outcome or timeline.CUT_OFF
        self._write(
            {
                "run": self._run,
                "queued": queued,
                "began": began,
                "nodes": os.environ.get("SLURM_JOB_NODELIST") or platform.node(),
                "last": timeline.last_record(output_dir),
            }
        )
        beats.observe(self._mark)

    def end(self, code: int) -> None:
        """Record how the attempt ended, by its exit code; at the end of the run tell its goodput."""
        if self._output_dir is None:
            return
        self._write({"phase": "end", "step": beats.step, "outcome": _OUTCOMES.get(code, "failed")})
        if code == finish.DONE and (found := self.goodput()):
            requests.say(str(found))

    def goodput(self) -> goodput.Goodput | None:
        """That of the run so far."""
        return goodput.of(timeline.read(self._output_dir, self._run)) if self._output_dir else None

    def _mark(self, phase: str, step: int) -> None:
        self._write({"phase": phase, "step": step})

    def _write(self, line: dict[str, Any]) -> None:
        if self._output_dir is None:
            return
        path = self._output_dir / trained_folder.TIMELINE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Opened each time: closing is what brings a line to a server of NFS.
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": round(time.time(), 3)} | line) + "\n")
        except OSError as error:
            self._output_dir = None
            requests.say(f"{path}: {error.strerror}: no goodput is known of this run")


def began_at(env: Mapping[str, str], dialect: str) -> tuple[float | None, float]:
    """When this attempt was queued (None: not known), and when its script began; without a script its launcher.

    In a pod that is the pod's own command, as preflight becomes the launcher.
    """
    began, _, queued = env.get(BEGAN, "").partition(" ")
    try:
        return float(queued) if queued else None, float(began)
    except ValueError:
        return None, _process_began(os.getppid() if dialect in ("torchrun", "deepspeed") else os.getpid())


def _process_began(pid: int) -> float:
    """When a process began, in seconds since 1970."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


recording = Recording()
