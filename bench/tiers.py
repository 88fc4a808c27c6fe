"""What a second tier of checkpoints saves: `python -m bench.tiers [--shared DIR] [--local DIR] [--rounds N]`.

All weights of SmolLM2-135M are trained on this machine's CPU, in turn with checkpoints in a folder alone, every ten
steps, and with a second tier (in memory by default), from which they are copied. Printed are the seconds for which the
steps stood still; not those of the last checkpoint, for which a run waits in any case.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from alignlaunch.train.outputs import timeline

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "models" / "SmolLM2-135M-Instruct"
STEPS, EVERY = 30, 10
TRAIN: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 1,
    "max_length": 64,
    "save_strategy": "steps",
    "save_steps": EVERY,
    "save_total_limit": 1,
    "report_to": "none",
    "gradient_checkpointing": False,
    "bf16": False,
}


def main() -> None:
    """Measure, print one line for each round, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path.cwd(), help="where output folders are made")
    parser.add_argument("--local", type=Path, default=Path("/dev/shm"), help="the node's own folder")  # noqa: S108
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.rounds):
        alone = _held_up(options.shared, None)
        tiered = _held_up(options.shared, {"local": str(options.local), "local_every": EVERY // 2})
        ratios.append(sum(alone) / sum(tiered))
        print(f"held up: {_told(alone)} | with a second tier: {_told(tiered)} | {ratios[-1]:.1f} times as long")
    print(f"median: {statistics.median(ratios):.1f} times as long without it")


def _held_up(shared: Path, checkpoint: dict[str, Any] | None) -> list[float]:
    """The seconds of each save before the last step, of one run."""
    folder = Path(tempfile.mkdtemp(dir=shared.resolve(), prefix=".bench-tiers-"))
    try:
        words = ["Once", "upon", "a", "time"] * 10
        texts = "".join(f'{{"text": "{" ".join(words[k % 4 :])}"}}\n' for k in range(STEPS))
        (folder / "texts.jsonl").write_text(texts, encoding="utf-8")
        job: dict[str, Any] = {"name": "bench", "stage": "pt", "model": str(MODEL), "output_dir": "out", "train": TRAIN}
        job |= {"data": {"train": ["texts.jsonl"], "cache_dir": "cache"}, "checkpoint": checkpoint}
        (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
        env = os.environ | {"HF_HUB_OFFLINE": "1", "ALIGNLAUNCH_RUN_DIR": str(folder)}
        command = [sys.executable, "-m", "alignlaunch.train", "job.yaml"]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}\n{done.stderr[-3000:]}")
        (attempt,) = timeline.read(folder / "out", str(folder))
        marks = [(mark, after) for mark, after in pairwise(attempt.marks) if mark.phase == "saving a checkpoint"]
        return [after.time - mark.time for mark, after in marks if mark.step < STEPS]
    finally:
        shutil.rmtree(folder)


def _told(seconds: list[float]) -> str:
    return f"{sum(seconds):.1f} s ({', '.join(f'{one:.1f}' for one in seconds)})"


if __name__ == "__main__":
    main()
