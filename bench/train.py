"""Our entrypoint against a hand-written TRL script and LLaMA-Factory, and packing against padding, in one run.

    python -m bench.train [--rounds 3] [--llamafactory PYTHON] [--write docs/bench-train.md]

All sides take turns and train the same LoRA on the same records with the same settings, and log each tenth step, as
TRL's defaults and LLaMA-Factory's examples do. A step's time is the mean of those after the first; time to the first
step is counted from the start of the process. PYTHON is that of an environment with LLaMA-Factory, which needs other
versions than ours: bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.made_page import table
from bench.trainers import spread

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".cache" / "bench" / "train"
MODEL = ROOT / "examples" / "models" / "SmolLM2-135M-Instruct"
TRL_AIM, LLAMAFACTORY_AIM, FIRST_STEP_AIM, PACKING_AIM = 1.25, 1.05, 0.95, 2.0
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
TRAIN: dict[str, Any] = {
    "max_steps": 6,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-4,
    "max_length": 512,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "seed": 1,
}
#: Of the comparison with other sides.
STEPS = 10
COMPARED: dict[str, Any] = {"max_steps": STEPS, "logging_steps": STEPS, "logging_first_step": True}


class Ended(NamedTuple):
    """A step's number, and when it ended in seconds since the epoch."""

    step: int
    time: float


def make_data() -> None:
    """`equal.jsonl`: answers of one length; `long-tailed.jsonl`: most are short, a few fill the window."""
    rng = random.Random(0)  # noqa: S311 - data, not secrets
    words = "the capital of France is Paris and a good answer is short while a bad one never ends".split()
    for name, lengths in (
        ("equal", [350] * 40),
        ("long-tailed", [min(220, int(8 * rng.paretovariate(0.9))) for _ in range(200)]),
    ):
        records = [
            {"prompt": "Go on.", "completion": " " + " ".join(rng.choice(words) for _ in range(length))}
            for length in lengths
        ]
        (PLACE / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def timed(command: list[str], ends: Callable[[], list[Ended]]) -> tuple[float, float]:
    """Seconds to the end of the first step, and of a later one (the mean; NaN without any).

    ends: reads some steps' ends, of them the first's and the last's.
    """
    began = time.time()
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DISABLE_VERSION_CHECK": "1"}
    environment = os.environ | quiet
    done = subprocess.run(command, cwd=PLACE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    found = ends()
    first, last = found[0], found[-1]
    later = last.step - first.step
    return first.time - began, (last.time - first.time) / later if later else math.nan


def ours(name: str, data: str, **train: Any) -> tuple[float, float]:
    """One run of `python -m alignlaunch.train`."""
    own = {key: value for key, value in (TRAIN | train).items() if key != "disable_tqdm"}
    job = {
        "name": name,
        "stage": "sft",
        "model": str(MODEL),
        "data": {"train": [f"{data}.jsonl"], "cache_dir": f"cache-{name}"},
        "output_dir": f"out/{name}",
        "lora": {"r": LORA["r"], "alpha": LORA["lora_alpha"], "dropout": LORA["lora_dropout"]},
        "train": own,
    }
    (PLACE / f"{name}.yaml").write_text(yaml.safe_dump(job))
    shutil.rmtree(PLACE / f"cache-{name}", ignore_errors=True)  # the other sides tokenise anew as well

    return timed([sys.executable, "-m", "alignlaunch.train", f"{name}.yaml"], partial(logged, name))


def records(name: str) -> list[dict[str, Any]]:
    """What a run of ours logged."""
    return [json.loads(line) for line in (PLACE / "out" / name / "metrics.jsonl").read_text().splitlines()]


def logged(name: str) -> list[Ended]:
    """When the steps ended that a run of ours logged."""
    return [Ended(record["step"], record["time"]) for record in records(name) if "loss" in record]


def theirs(
    *launcher: str, python: str = sys.executable, script: str = "trl_sft.py", **train: Any
) -> tuple[float, float]:
    """One run of another side's script, below bench/."""
    settings = {
        "model": str(MODEL),
        "data": "equal.jsonl",
        "output_dir": "out/other",
        "times": "times.txt",
        "train": TRAIN | train,
        "lora": LORA,
    }

    def ends() -> list[Ended]:
        return [Ended(i, float(line)) for i, line in enumerate((PLACE / "times.txt").read_text().split(), start=1)]

    shutil.rmtree(PLACE / "out" / "other", ignore_errors=True)
    return timed([python, *launcher, str(ROOT / "bench" / script), json.dumps(settings)], ends)


PAGE = """# Training: our entrypoint, a hand-written TRL script and LLaMA-Factory

Made by `python -m bench.train --llamafactory PYTHON --write docs/bench-train.md`: SFT of SmolLM2-135M with LoRA r=8,
{steps} steps of 2 x {tokens} tokens, of which the first and the last are logged, {rounds} rounds, the sides in turn;
medians, and of the ratios the least and the most. {machine}, CPU, fp32.
"""
PACKING_PAGE = """
## Packing

The same LoRA on records of which most are short and a few fill the window.
"""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llamafactory", metavar="PYTHON", help="the Python of an environment that has it")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    make_data()
    others = {"TRL script": (partial(theirs, **COMPARED), TRL_AIM)}
    if options.llamafactory:
        run = partial(theirs, python=options.llamafactory, script="llamafactory_sft.py", **COMPARED)
        others["LLaMA-Factory"] = (run, LLAMAFACTORY_AIM)
    found = [(ours("ours", "equal", **COMPARED), *(run() for run, _ in others.values())) for _ in range(options.rounds)]
    print(found, file=sys.stderr, flush=True)
    rows = []
    for i, (name, (_, aim)) in enumerate(others.items(), start=1):
        speed = spread([turn[i][1] / turn[0][1] for turn in found])
        rows.append([f"a step: {name}", _median(found, 0, 1), _median(found, i, 1), speed, f">= {aim}"])
        start = spread([turn[i][0] / turn[0][0] for turn in found])
        rows.append(
            [f"the first step: {name}", _median(found, 0, 0), _median(found, i, 0), start, f">= {FIRST_STEP_AIM}"]
        )
    tokens = (
        max(record.get("num_tokens", 0) for record in records("ours")) / STEPS / TRAIN["per_device_train_batch_size"]
    )
    text = PAGE.format(steps=STEPS, tokens=round(tokens), rounds=options.rounds, machine=platform.machine())
    text += "\n".join(table(("seconds to the end of", "ours", "other", "other / ours (spread)", "aim"), rows))
    text += "\n" + PACKING_PAGE + "\n".join(packing(options.rounds)) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


def packing(rounds: int) -> list[str]:
    """The table of packed against padded sequences."""
    packed = {"max_length": 256, "per_device_train_batch_size": 1, "packing": True}
    padded = {"max_length": 256, "per_device_train_batch_size": 8}
    speeds = []
    for _ in range(rounds):
        for name, train in (("packed", packed), ("padded", padded)):
            ours(name, "long-tailed", **train)
            speeds.append(statistics.median(r["tokens_per_second"] for r in records(name)[2:] if "loss" in r))
    ratio = spread([a / b for a, b in zip(speeds[::2], speeds[1::2], strict=True)])
    middle = [f"{statistics.median(speeds[side::2]):.0f}" for side in (0, 1)]
    return table(
        ("packed 1 x 256, tokens/s", "padded 8, tokens/s", "ratio (spread)", "aim"),
        [[*middle, ratio, f">= {PACKING_AIM}"]],
    )


def _median(found: list[Any], side: int, figure: int) -> str:
    return f"{statistics.median(turn[side][figure] for turn in found):.2f}"


if __name__ == "__main__":
    main()
