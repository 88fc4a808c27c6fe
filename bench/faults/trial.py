"""One fault, met by a real run of two nodes on the tests' Slurm, and what became of the run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm.cli import Login
from tests.support.tiny import TRAIN, make_model, write_data

from . import inject

STEPS = 40
#: Nothing falls on one step with another: records every step, checkpoints at 5, 10, ..., evaluations at 6, 12, ...
SETTINGS = TRAIN | {
    **{"max_steps": STEPS, "logging_steps": 1, "save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps"},
    **{"eval_steps": 6, "lr_scheduler_type": "linear"},
}
#: Sums of two processes and of one differ by so much.
SAME = 1e-4
_PATIENCE = 300


@dataclass(frozen=True)
class Fault:
    """What happens to a run. action: of inject.happens; from: what is done outside once the run has come there."""

    action: str
    phase: str = "step"
    rank: int = 1
    launcher: str = "torchrun"
    outside: str = ""
    #: Whether another attempt would end in the same way, so that the run must end and say why.
    is_final: bool = False

    @property
    def name(self) -> str:
        return self.outside or self.action

    @property
    def key(self) -> str:
        return f"{self.launcher} {self.name} {self.phase} {self.rank}"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    lost: steps that were trained twice. seconds: from the fault to the next new step. cold: from the submission to the
    first step. verdict: in words.
    """

    verdict: str
    lost: int
    seconds: float | None
    cold: float | None

    @property
    def is_good(self) -> bool:
        return self.verdict in (GOES_ON, ENDS)


GOES_ON, ENDS = "goes on to the same losses", "ends, and says why"


class Laboratory:
    """A login on a private Slurm, with a model and data."""

    def __init__(self, login: Login) -> None:
        self.login = login
        make_model(login.folder / "model")
        write_data(login.folder)
        faulty = login.folder / "faulty"
        faulty.mkdir()
        shutil.copy(inject.__file__, faulty / "sitecustomize.py")
        self.undisturbed = self._undisturbed()

    def _undisturbed(self) -> dict[int, float]:
        self._write_job("undisturbed", nnodes=1)
        self.login.call("local", "undisturbed.yaml", "--set", "train.gradient_accumulation_steps=4")
        return dict(losses(self.login.folder / "output/undisturbed"))

    def _write_job(self, name: str, **keys: Any) -> None:
        data = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
        zero = 2 if keys.get("launcher") == "deepspeed" else 0
        self.login.write_job(
            name, **{"lora": None, "output_dir": f"output/{name}", "train": SETTINGS, "data": data, "zero": zero} | keys
        )

    def meet(self, fault: Fault) -> Outcome:
        """Run a job that meets the fault."""
        name = fault.key.replace(" ", "-")
        output, mark = self.login.folder / f"output/{name}", self.login.folder / f"{name}.mark"
        env = {
            "PYTHONPATH": str(self.login.folder / "faulty"),
            "FAULT": ":".join((fault.phase.replace(" ", "-"), fault.action, str(fault.rank), str(mark))),
            "OUTPUT": str(output),
        }
        timeout = 10 if fault.action in ("stop", "loop") else None
        self._write_job(name, launcher=fault.launcher, env=env, hang_timeout=timeout)
        handle = self.login.submit(name)
        submitted = time.time()
        if fault.outside:
            self._outside(fault.outside, mark, handle.rpartition("/")[2])
        waiting = [self.login.python, "-m", "alignlaunch.launchers.cli", "wait", handle]
        try:
            subprocess.run(
                waiting, cwd=self.login.folder, env=self.login.env, capture_output=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            self.login.call("cancel", handle, code=None)
        log = self.login.call("logs", handle, code=None).stdout
        verdict = self._verdict(fault, output, mark, self.login.status(handle)["state"], log)
        return _measured(verdict, output, mark, log, submitted)

    def _outside(self, what: str, mark: Path, job_id: str) -> None:
        deadline = time.monotonic() + 120
        while not mark.exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        slurm = self.login.slurm
        if what == "slurmd killed, node down":
            slurm.kill_node("n2")
            time.sleep(40)
            slurm.start_node("n2")
        elif what == "slurmctld killed":
            slurm.restart_slurmctld()
        elif what == "time limit":
            slurm.run("scancel", "--batch", "--signal=USR2", job_id)
        elif what == "requeued by an operator":
            slurm.run("scontrol", "requeue", job_id)

    def _verdict(self, fault: Fault, output: Path, mark: Path, state: str, log: str) -> str:
        if not mark.exists():
            return "NOT TRIED: the run did not come to this phase"
        whole = any(output.glob("*.safetensors"))
        if state == "COMPLETED":
            found = losses(output)
            same = [step for step, _ in found] == sorted(self.undisturbed) and whole
            same = same and all(abs(loss - self.undisturbed[step]) < SAME for step, loss in found)
            return GOES_ON if same else "WRONG: completed, but not with the losses of an undisturbed run"
        if fault.is_final and not whole and "tried again" in log:
            return ENDS
        return f"LOST: {state}"


def _measured(verdict: str, output: Path, mark: Path, log: str, submitted: float) -> Outcome:
    steps = [int(step) for step in re.findall(rf"step (\d+)/{STEPS} \| loss", log)]
    found = [one for one in records(output) if "loss" in one]
    happened = mark.stat().st_mtime if mark.exists() else None
    seconds = next((one["time"] - happened for one in found if happened and one["time"] > happened), None)
    first = found[0]["time"] - submitted if found else None
    # A record of the first attempt tells of a cold start only if it was the first attempt's.
    cold = first if first is not None and happened and found[0]["time"] < happened else None
    return Outcome(verdict, len(steps) - len(set(steps)), seconds, cold)


def records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without a last line that is cut off."""
    try:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of each record."""
    return [(one["step"], one["loss"]) for one in records(folder) if "loss" in one]
