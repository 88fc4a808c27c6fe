"""Random faults in one run of the real model: `python -m bench.faults.soak [COUNT] [SEED]`, as root.

Two nodes of the tests' Slurm. Each fault comes some steps after the run has recovered from the one before; nobody
submits anything again. The losses of all steps are held against those of the same job, undisturbed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.slurm.cli import Login
from tests.slurm.cluster.private_slurm import PrivateSlurm
from tests.train.conftest import ROOT

from .laboratory import losses, records
from .on_slurm import LAUNCHER, TRAIN, Cluster

#: Steps from one fault to the next, at least and at most, and from one save to the next.
CALM, EVERY = (5, 15), 4
_PATIENCE = 300
_MODEL = ROOT / "examples/models/SmolLM2-135M-Instruct"
_DATA = ROOT / "examples/data/preference/train.jsonl"


class Soak:
    """A run on a private Slurm, and what may happen to it."""

    def __init__(self, login: Login, steps: int) -> None:
        self.login, self.steps = login, steps
        login.patience = 7200  # `wait` on a busy machine
        signals = {
            "kill -9 of rank 0": (TRAIN, 0, signal.SIGKILL),
            "kill -9 of rank 1": (TRAIN, 1, signal.SIGKILL),
            "segmentation fault of rank 1": (TRAIN, 1, signal.SIGSEGV),
            "SIGSTOP of rank 1": (TRAIN, 1, signal.SIGSTOP),
            "kill -9 of a launcher": (LAUNCHER, 1, signal.SIGKILL),
        }
        self._cluster = Cluster(login.slurm)
        outside = self._cluster.faults
        #: By its name; each is given the run's handle.
        self.faults: dict[str, Callable[[str], object]] = {
            **{name: partial(self._signal, *target) for name, target in signals.items()},
            **{name: outside[name] for name in outside if name != "scancel"},  # after that nothing goes on by itself
        }

    def _signal(self, module: str, rank: int, number: signal.Signals, handle: str) -> None:
        self._cluster.process(handle, module, rank).send_signal(number)

    def submit(self, name: str) -> str:
        """Submit the job under this name; returns its handle."""
        train = {
            **{"max_steps": self.steps, "save_strategy": "steps", "save_steps": EVERY, "logging_steps": 1},
            **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "max_length": 64},
            **{"report_to": "none", "gradient_checkpointing": False, "learning_rate": 1e-4},
        }
        self.login.write_job(
            name,
            stage="orpo",
            model=str(_MODEL),
            data={"train": [str(_DATA)], "cache_dir": "cache"},
            lora={"r": 8},
            output_dir=f"output/{name}",
            train=train,
            max_restarts=1000,
            hang_timeout=20,
        )
        return self.login.submit(name)

    def step(self, name: str) -> int:
        """The last step that was recorded."""
        found = self.losses(name)
        return found[-1][0] if found else 0

    def losses(self, name: str) -> list[tuple[int, float]]:
        """(step, loss) of each record of a run."""
        try:
            text = (self.login.folder / f"output/{name}/metrics.jsonl").read_text(encoding="utf-8")
        except OSError:
            return []
        return losses(records(text))

    def until_step(self, name: str, step: int) -> None:
        """Wait for this step. Raises TimeoutError if it does not come."""
        deadline = time.monotonic() + _PATIENCE
        while self.step(name) < step:
            if time.monotonic() > deadline:
                raise TimeoutError(f"step {step} did not come; the last is {self.step(name)}")
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=20, help="how many faults")
    parser.add_argument("seed", type=int, nargs="?", default=0, help="which ones")
    options = parser.parse_args()
    count, chance = options.count, random.Random(options.seed)  # noqa: S311 - no cryptography
    steps = count * sum(CALM) // 2 + 40
    with (
        tempfile.TemporaryDirectory(prefix="alignlaunch-soak-") as scratch,
        PrivateSlurm(Path(scratch) / "slurm", accounting=False) as slurm,
    ):
        folder = Path(scratch) / "login"
        folder.mkdir()
        soak = Soak(Login(slurm, folder), steps)
        soak.login.call("wait", soak.submit("undisturbed"))
        slurm.wait_idle()
        began, handle, at = time.monotonic(), soak.submit("disturbed"), 0
        for number in range(1, count + 1):
            at = min(soak.step("disturbed") + chance.randint(*CALM), steps - 2)
            soak.until_step("disturbed", at)
            name = chance.choice(list(soak.faults))
            soak.faults[name](handle)
            print(f"{number}: {name} at step {soak.step('disturbed')}, {time.monotonic() - began:.0f} s", flush=True)
        code = soak.login.call("wait", handle, code=None).returncode
        state = json.dumps(soak.login.status(handle)["state"])
        undisturbed, disturbed = dict(soak.losses("undisturbed")), soak.losses("disturbed")
        same = [step for step, _ in disturbed] == sorted(undisturbed)
        apart = max((abs(loss - undisturbed.get(step, 0.0)) for step, loss in disturbed), default=1.0)
        print(soak.login.call("logs", handle, code=None).stdout if code or not same else "")
        print(soak.login.call("status", handle, "--goodput", code=None).stdout)
        print(f"{count} faults, {steps} steps: {state}, every step once: {same}, losses differ by {apart:.2g} at most")
    sys.exit(code or not same or apart > 1e-4)


if __name__ == "__main__":
    main()
