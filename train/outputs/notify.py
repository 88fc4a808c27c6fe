"""Telling people that the state of a run has changed (`notify` in the job file). No torch here.

Rank 0 tells of the start, a resumption and the completion. Any other end is told by the process that sees it however
the ranks die: the batch script on Slurm, torchrun elsewhere. A process of its own (`notifier`) delivers each message.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, cast

from .. import finish
from ..config import TrainConfig
from ..processes import requests
from . import checkpoints, notifier, timeline

State = Literal[
    "started", "resumed", "completed", "stopped", "stopped and requeued", "failed", "failed and tried again"
]
#: The kinds of end. Which of them a process tells of depends on which others there are around it.
ENDS = ("completed", "stopped", "failed")
_STATES: dict[tuple[str, bool], State] = {
    ("completed", False): "completed",
    ("stopped", False): "stopped",
    ("stopped", True): "stopped and requeued",
    ("failed", False): "failed",
    ("failed", True): "failed and tried again",
}
#: Seconds in which a process that delivers ends.
_PATIENCE = notifier.LIMIT + 5


@dataclass(frozen=True)
class Message:
    """What is told. id: the name of the run's folder, or the scheduler's number. steps: 0 if no step was made."""

    run: str
    id: str
    state: State
    step: int
    steps: int
    cause: str
    host: str

    def __str__(self) -> str:
        reached = f" at step {self.step} of {self.steps}" if self.steps else ""
        cause = f" ({self.cause})" if self.cause else ""
        return f"{self.run}: {self.state}{cause}{reached}; run {self.id}, on {self.host}"


class Telling:
    """What one process tells of a run; nothing until `start`."""

    def __init__(self) -> None:
        self._job: TrainConfig | None = None
        self._run_id = ""
        self._ends: Sequence[str] = ()
        self._delivering: list[subprocess.Popen[bytes]] = []

    def start(self, job: TrainConfig, run_id: str, *, ends: Sequence[str] = ENDS) -> None:
        """From now on tell of this run, if its job names anybody; of its end only if it is one of these."""
        self._job, self._run_id, self._ends = job if job.notify else None, run_id, ends

    def tell(self, state: State, step: int, steps: int, cause: str = "") -> None:
        """Tell of a change, and do not wait for its delivery."""
        if self._job is None or self._job.notify is None:
            return
        run = "by hand" if self._run_id in ("", timeline.UNNAMED) else Path(self._run_id).name
        message = Message(self._job.name, run, state, step, steps, cause, platform.node())
        asked = {"text": str(message), **asdict(message)}
        to = {"webhook": self._job.notify.webhook, "command": self._job.notify.command}
        command = [sys.executable, "-m", notifier.__name__]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            self._delivering.append(process)
            with cast(IO[bytes], process.stdin) as pipe:
                pipe.write(json.dumps(to | {"message": asked}).encode())
        except OSError as error:
            requests.say(f"notify: {error.strerror}; the run goes on")

    def ended(self, code: int, *, again: bool = False, cause: str = "") -> None:
        """Tell of the run's end with this exit code, and wait until that is delivered or could not be.

        (A scheduler would end what a job leaves behind.) again: whether the batch script has the run go on.
        """
        if self._job is None:
            return
        output_dir = Path(self._job.output_dir)
        stopped = "stopped" if (output_dir / requests.STOPPED).exists() else "failed"
        end = "completed" if code == finish.DONE else stopped
        if end not in self._ends:
            return
        state, cause = _STATES[end, again], cause or (f"exit code {code}" if end == "failed" else "")
        ours = checkpoints.owner(output_dir) == self._run_id
        last = timeline.last_record(output_dir) if ours else None
        step, steps = (last["step"], last["max_steps"]) if last else (0, 0)
        self.tell(state, step, steps, cause)
        for process in self._delivering:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


telling = Telling()
