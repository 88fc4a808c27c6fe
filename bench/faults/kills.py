"""kill -9 at random moments around saves: `python -m bench.faults.kills [COUNT]`.

One process trains and saves at every step. It is killed at a random moment after a save has begun, and started again,
until it has been killed so often; then it ends by itself. No attempt may fail to start, a committed checkpoint may not
be lost, and the losses are those of a run that nobody disturbed. Each attempt is a fork of a process that has imported
what takes long.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from tests.support.tiny import TRAIN, make_model, write_data

import alignlaunch.train.session  # noqa: F401 - before the forks, which would take seconds for it
from alignlaunch.train import __main__ as entrypoint
from alignlaunch.train.outputs import checkpoints

COUNT = 200
#: Seconds after the beginning of a save within which the kill comes: a save takes about half of it.
WITHIN = 0.1
_FORK = multiprocessing.get_context("fork")


class Killed:
    """The run in a folder, and what its attempts have done."""

    def __init__(self, folder: Path, steps: int, count: int) -> None:
        self.folder, self.count = folder, count
        make_model(folder / "model")
        write_data(folder)
        train = TRAIN | {"max_steps": steps, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1}
        for name in ("killed", "undisturbed"):
            job = {"name": name, "stage": "sft", "model": "model", "data": {"train": ["sft.jsonl"]}, "train": train}
            text = yaml.safe_dump(job | {"output_dir": name, "hang_timeout": 0})
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        self.output = folder / "killed"
        self.kills = self.lost = self.while_saving = 0

    def train(self) -> None:
        """Kill the run so often, and let it end. Raises RuntimeError if an attempt fails."""
        chance = random.Random(0)  # noqa: S311 - no cryptography
        while self.kills < self.count:
            self._attempt(chance.uniform(0, WITHIN))
        self.run("killed")

    def _attempt(self, delay: float) -> None:
        before, left = self._newest(), self._saving()
        process = self._start("killed")
        deadline = time.monotonic() + 60
        # After one save, as a run that never saves is not started for ever.
        while self._newest() <= before or not self._saving() - left:
            if not process.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"attempt {self.kills + 1} failed to start; see {self.folder}/killed.log")
            time.sleep(0.001)
        time.sleep(delay)
        self.while_saving += bool(self._saving() - left)
        at = self._newest()
        process.kill()
        process.join()
        self.kills += 1
        self.lost += self._newest() < max(before, at)

    def _saving(self) -> set[int]:
        """The folders of checkpoints that are not committed."""
        found = set()
        for path in (self.output / checkpoints.ASIDE).glob("checkpoint-*"):
            with suppress(FileNotFoundError):
                found.add(path.stat().st_ino)
        return found

    def _newest(self) -> int:
        found = checkpoints.complete_checkpoints(self.output)
        return checkpoints.step(found[-1]) if found else 0

    def run(self, name: str) -> None:
        """Let an attempt come to its end. Raises RuntimeError if it fails."""
        process = self._start(name)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"exit code {process.exitcode}; see {self.folder}/{name}.log")

    def _start(self, name: str) -> Any:
        process = _FORK.Process(target=self._train, args=(name,))
        process.start()
        return process

    def _train(self, name: str) -> None:
        os.chdir(self.folder)
        with Path(f"{name}.log").open("a", encoding="utf-8") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        os.environ |= {"ALIGNLAUNCH_RUN_DIR": f"/runs/{name}", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        sys.argv = ["train", f"{name}.yaml"]
        entrypoint.main()

    def losses(self, name: str) -> list[tuple[int, float]]:
        """(step, loss) of each record of a run."""
        lines = (self.folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [(one["step"], one["loss"]) for one in map(json.loads, lines) if "loss" in one]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory(prefix="alignlaunch-kills-") as folder:
        # Each attempt commits a step or two.
        killed = Killed(Path(folder), 3 * count, count)
        killed.train()
        killed.run("undisturbed")
        same = killed.losses("killed") == killed.losses("undisturbed")
        print(
            f"{killed.kills} kills, {killed.while_saving} of them while a checkpoint was written: all attempts started,"
            f" {killed.lost} committed checkpoints lost, losses {'the same' if same else 'NOT THE SAME'}"
        )
    sys.exit(killed.lost > 0 or not same)


if __name__ == "__main__":
    main()
