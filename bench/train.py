"""Our entrypoint against a hand-written TRL script, and packing against padding: both sides in one run, interleaved.

    python bench/train.py [--rounds 3] [--write docs/bench-train.md]

Both sides train the same LoRA on the same records with the same settings. Tokens a second are those between the end of
the first step and the end of the last; time to the first step is counted from the start of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".cache" / "bench" / "train"
MODEL = ROOT / "examples" / "models" / "SmolLM2-135M-Instruct"
THROUGHPUT_AIM, FIRST_STEP_AIM, PACKING_AIM = 0.98, 1.05, 2.0
STEPS = 6
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
TRAIN: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-4,
    "max_length": 256,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "seed": 1,
}


def make_data() -> None:
    """`equal.jsonl`: answers of one length; `long-tailed.jsonl`: most are short, a few fill the window."""
    rng = random.Random(0)  # noqa: S311 - data, not secrets
    words = "the capital of France is Paris and a good answer is short while a bad one never ends".split()
    for name, lengths in (
        ("equal", [180] * 40),
        ("long-tailed", [min(220, int(8 * rng.paretovariate(0.9))) for _ in range(200)]),
    ):
        records = [
            {"prompt": "Go on.", "completion": " " + " ".join(rng.choice(words) for _ in range(length))}
            for length in lengths
        ]
        (PLACE / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def timed(command: list[str], steps: Any) -> tuple[float, float]:
    """Seconds to the end of the first step, and from there to the end of the last. steps: reads when each ended."""
    began = time.time()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=PLACE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    ends = steps()
    return ends[0] - began, ends[-1] - ends[0]


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
    subprocess.run(["rm", "-rf", f"cache-{name}"], cwd=PLACE, check=True)  # the other side tokenises anew as well

    def ends() -> list[float]:
        return [record["time"] for record in records(name) if "loss" in record]

    return timed([sys.executable, "-m", "alignlaunch.train", f"{name}.yaml"], ends)


def records(name: str) -> list[dict[str, Any]]:
    """What a run of ours logged."""
    return [json.loads(line) for line in (PLACE / "out" / name / "metrics.jsonl").read_text().splitlines()]


def theirs(*launcher: str, **train: Any) -> tuple[float, float]:
    """One run of the hand-written script."""
    settings = {
        "model": str(MODEL),
        "data": "equal.jsonl",
        "output_dir": "out/trl",
        "times": "times.txt",
        "train": TRAIN | train,
        "lora": LORA,
    }

    def ends() -> list[float]:
        return [float(line) for line in (PLACE / "times.txt").read_text().split()]

    return timed([sys.executable, *launcher, str(ROOT / "bench" / "trl_sft.py"), json.dumps(settings)], ends)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    make_data()
    pairs = [(ours("ours", "equal"), theirs()) for _ in range(options.rounds)]
    throughput = statistics.median(b[1] / a[1] for a, b in pairs)
    first_step = statistics.median(a[0] / b[0] for a, b in pairs)

    packed = {"max_length": 256, "per_device_train_batch_size": 1, "packing": True}
    padded = {"max_length": 256, "per_device_train_batch_size": 8}
    speeds = []
    for _ in range(options.rounds):
        for name, train in (("packed", packed), ("padded", padded)):
            ours(name, "long-tailed", **train)
            speeds.append(statistics.median(r["tokens_per_second"] for r in records(name)[2:] if "loss" in r))
    packing = statistics.median(a / b for a, b in zip(speeds[::2], speeds[1::2], strict=True))

    title = "# Training: our entrypoint and a hand-written TRL script"
    intro = (
        "Made by `python bench/train.py --write docs/bench-train.md`: SFT of SmolLM2-135M with LoRA r=8, "
        f"{STEPS} steps of 2 x 256 tokens,\n{options.rounds} rounds, the two sides in turn; medians of the rounds' "
        f"ratios. {platform.machine()}, CPU."
    )
    speed = (_median(pairs, 0, 1), _median(pairs, 1, 1), f"tokens/s {throughput:.3f}", f">= {THROUGHPUT_AIM}")
    start = (_median(pairs, 0, 0), _median(pairs, 1, 0), f"{first_step:.3f}", f"<= {FIRST_STEP_AIM}")
    table = "\n".join(
        [
            f"{title}\n\n{intro}\n",
            "| | ours | TRL script | ratio | aim |\n|---|---|---|---|---|",
            "| seconds for {} steps | {:.1f} | {:.1f} | {} | {} |".format(STEPS - 1, *speed),
            "| seconds to the end of the first step | {:.1f} | {:.1f} | {} | {} |\n".format(*start),
            "| long-tailed lengths | tokens/s |\n|---|---|",
            f"| padded, 8 sequences | {statistics.median(speeds[1::2]):.0f} |",
            f"| packed, 1 x 256 tokens | {statistics.median(speeds[::2]):.0f} |",
            f"| ratio | {packing:.2f} (aim >= {PACKING_AIM}) |",
        ]
    )
    print(table)
    if options.write:
        options.write.write_text(table + "\n", encoding="utf-8")


def _median(pairs: list[Any], side: int, figure: int) -> float:
    return float(statistics.median(pair[side][figure] for pair in pairs))


if __name__ == "__main__":
    main()
