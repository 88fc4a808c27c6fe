"""A place where real runs of two nodes meet faults, and what becomes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Protocol

from tests.support.command import ALIGNLAUNCH
from tests.support.tiny import TRAIN, make_model, write_data

from . import inject
from .fault import AGAIN, ENDS, GOES_ON, Fault, Outcome

STEPS = 40
#: Nothing falls on one step with another: records every step, checkpoints at 5, 10, ..., evaluations at 6, 12, ...
SETTINGS = TRAIN | {
    **{"max_steps": STEPS, "logging_steps": 1, "save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps"},
    **{"eval_steps": 6, "lr_scheduler_type": "linear"},
}
DATA = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
#: Sums of two processes and of one differ by so much.
SAME = 1e-4
#: Seconds that a run may take, and in which it must come to the phase of its fault.
PATIENCE, ARRIVAL = 300, 120


class User(Protocol):
    """Somebody with a folder of job files, who calls alignlaunch."""

    folder: Path
    env: dict[str, str]

    def call(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Call alignlaunch."""

    def status(self, run: str) -> dict[str, Any]:
        """`alignlaunch status RUN --json`."""

    def write_job(self, name: str, **keys: Any) -> object:
        """Write a job file; `keys` over a small job."""


class Laboratory(ABC):
    """A folder of job files with a model and data. version: of what runs the jobs there."""

    #: What can be done from outside to the run of this handle, by its name.
    outside: dict[str, Callable[[str], object]]
    version: str

    def __init__(self, user: User) -> None:
        self.user, self.folder = user, user.folder
        self._numbers = count(1)
        make_model(self.folder / "model")
        write_data(self.folder)
        faulty = self.folder / "faulty"
        faulty.mkdir()
        shutil.copy(inject.__file__, faulty / "sitecustomize.py")
        self._write_job("undisturbed", {"nnodes": 1})
        user.call("local", "undisturbed.yaml", "--set", "train.gradient_accumulation_steps=4")
        text = (self.folder / self.output("undisturbed") / "metrics.jsonl").read_text(encoding="utf-8")
        self.undisturbed = dict(losses(records(text)))

    def output(self, name: str) -> str:
        """A run's output folder, relative to the job files'."""
        return f"output/{name}"

    @abstractmethod
    def start(self, name: str) -> str:
        """Start the run of a job file; returns its handle."""

    @abstractmethod
    def read(self, path: str) -> str:
        """A file of the run's, relative to the folder of job files. Raises OSError."""

    @abstractmethod
    def has_result(self, name: str) -> bool:
        """Whether final weights were saved."""

    def wait(self, handle: str) -> str:
        """The state in which the run has ended. It is cancelled if its time is up."""
        try:
            subprocess.run(
                [*ALIGNLAUNCH, "wait", handle],
                cwd=self.folder,
                env=self.user.env,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.user.call("cancel", handle, code=None)
        return str(self.user.status(handle)["state"])

    def log(self, handle: str) -> str:
        return self.user.call("logs", handle, code=None).stdout

    @abstractmethod
    def mend(self) -> None:
        """Take away what a fault left, which would harm the next run, too."""

    def meet(self, fault: Fault) -> Outcome:
        """Run a job that meets the fault."""
        name = f"run-{next(self._numbers)}"
        self._write_job(name, self._keys(fault, name))
        submitted = time.time()
        handle = self.start(name)
        if fault.outside and self._arrived(name):
            self.outside[fault.outside](handle)
        state, log = self.wait(handle), self.log(handle)
        verdict = self._verdict(fault, name, state, log)
        if verdict == ENDS and fault.again:
            self.mend()
            state = self.wait(self.start(name))
            verdict = (
                AGAIN if self._verdict(fault, name, state, "") == GOES_ON else f"LOST when submitted again: {state}"
            )
        self.mend()
        return self._measured(verdict, name, log, submitted)

    def _write_job(self, name: str, keys: dict[str, Any]) -> None:
        self.user.write_job(
            name, **{"lora": None, "output_dir": self.output(name), "train": SETTINGS, "data": DATA, "zero": 0} | keys
        )

    def _keys(self, fault: Fault, name: str) -> dict[str, Any]:
        env = {
            "PYTHONPATH": "faulty",
            "FAULT": ":".join((fault.phase.replace(" ", "-"), fault.action, str(fault.rank), f"{name}.mark")),
            "OUTPUT": self.output(name),
        }
        return {
            "launcher": fault.launcher,
            "nnodes": fault.nnodes,
            "zero": 2 if fault.launcher == "deepspeed" else 0,
            "env": env,
            "checkpoint": {"local": "/dev/shm", "local_every": 1} if fault.second_tier else None,  # noqa: S108
            "hang_timeout": 10 if fault.action in ("stop", "loop") else None,
        }

    def _arrived(self, name: str) -> bool:
        """Whether the run has come to the phase of its fault."""
        deadline = time.monotonic() + ARRIVAL
        while (at := self._happened(name)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return at is not None

    def _happened(self, name: str) -> float | None:
        """When the fault happened, as seconds since 1970; None: it has not."""
        try:
            return float(self.read(f"{name}.mark"))
        except (OSError, ValueError):
            return None

    def _records(self, name: str) -> list[dict[str, Any]]:
        try:
            return records(self.read(f"{self.output(name)}/metrics.jsonl"))
        except OSError:
            return []

    def _verdict(self, fault: Fault, name: str, state: str, log: str) -> str:
        if self._happened(name) is None:
            return "NOT TRIED: the run did not come to this phase"
        whole = self.has_result(name)
        if state == "COMPLETED":
            found = losses(self._records(name))
            same = [step for step, _ in found] == sorted(self.undisturbed) and whole
            same = same and all(abs(loss - self.undisturbed[step]) < SAME for step, loss in found)
            return GOES_ON if same else "WRONG: completed, but not with the losses of an undisturbed run"
        if fault.ends and not whole and fault.ends in f"{state}\n{log}":
            return ENDS
        return f"LOST: {state}"

    def _measured(self, verdict: str, name: str, log: str, submitted: float) -> Outcome:
        steps = [int(step) for step in re.findall(rf"step (\d+)/{STEPS} \| loss", log)]
        found, happened = [one for one in self._records(name) if "loss" in one], self._happened(name)
        # The longest time without a new step: a fault that comes while the rank waits shows only after some of them.
        later = [happened, *(one["time"] for one in found if one["time"] > happened)] if happened else []
        seconds = max((after - before for before, after in pairwise(later)), default=None)
        first = found[0]["time"] - submitted if found else None
        # A record of the first attempt tells of a cold start only if it was the first attempt's.
        cold = first if first is not None and happened and found[0]["time"] < happened else None
        if verdict not in (GOES_ON, ENDS, AGAIN):
            print(log)
        return Outcome(verdict, len(steps) - len(set(steps)), seconds if verdict == GOES_ON else None, cold)


def records(text: str) -> list[dict[str, Any]]:
    """Those of a metrics.jsonl, without a last line that is cut off."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def losses(found: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, loss) of each record."""
    return [(one["step"], one["loss"]) for one in found if "loss" in one]


def weights(folder: Path) -> bool:
    """Whether a folder has final weights."""
    return any(folder.glob("*.safetensors"))
