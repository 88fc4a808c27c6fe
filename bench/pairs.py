"""Our preference stages against TRL's trainers on the same records: seconds a step, memory, loss; both in one run.

    python -m bench.pairs [--rounds 3] [--stage dpo] [--write docs/bench-pairs.md]

Each run is a process of its own, and ours and TRL's take turns. Both train the same LoRA of SmolLM2-135M on the same
records, with the same batch; a step's time is the median of those after the first.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from bench import trainers

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "models" / "SmolLM2-135M-Instruct"
STAGES = ("dpo", "orpo", "rm")
#: Words of the prompt and of each answer; the length of an answer varies by half.
SHAPES = {"5 : 1": (200, 40), "1 : 1": (80, 80), "1 : 5": (30, 150)}
AIMS = {"5 : 1": 1.6, "1 : 1": 1.2, "1 : 5": 1.0}
BATCH, STEPS = 4, 3
TRAIN: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": BATCH,
    "learning_rate": 1e-5,
    "max_length": 1024,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 1,
}

PAGE = """# Preference training: our stages and TRL's trainers

Made by `make bench-pairs`: LoRA of SmolLM2-135M, {batch} pairs a batch, {rounds} round(s), the two sides in turn, each
run in a process of its own; medians, and of the ratios the spread. {machine}, CPU, fp32. The memory is the process's
peak. An equal first loss shows that both computed the same thing.

The prompt of a pair is computed once (`train/stages/pairs/shared.py`), and the head without recomputation, because
these logits fit into memory (`train/model/next_token.py`). That losses and gradients stay the same is tested in
`tests/train/stages/`: against TRL's trainers and plain forwards (`test_trl_parity.py`, `pairs/test_shared.py`), and
with several processes under DDP and ZeRO (`test_parity.py`).

"""


def records(shape: str) -> list[dict[str, str]]:
    """Pairs of random English words."""
    rng = random.Random(shape)  # noqa: S311 - data, not secrets
    words = "the a capital of France is Paris and good short answers end while bad ones go on for ever".split()
    prompt, answer = SHAPES[shape]

    def text(count: int) -> str:
        return " " + " ".join(rng.choice(words) for _ in range(count))

    return [
        {
            "prompt": text(prompt).strip(),
            **{side: text(int(answer * rng.uniform(0.5, 1.5))) for side in ("chosen", "rejected")},
        }
        for _ in range(BATCH * STEPS)
    ]


def run(side: str, stage: str, shape: str, folder: str) -> dict[str, Any]:
    """Train, here. Returns the seconds of a step, its loss before any training and the peak of this process in MiB."""
    import resource

    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    warnings.simplefilter("ignore")
    auto: Any = AutoModelForSequenceClassification if stage == "rm" else AutoModelForCausalLM
    more = {"num_labels": 1} if stage == "rm" else {}
    torch.manual_seed(0)  # of a new score head
    model = auto.from_pretrained(MODEL, dtype="float32", **more)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    trainer = trainers.make(side, stage, model, tokenizer, records(shape), {"output_dir": folder, **TRAIN})
    seconds, loss = trainers.train(trainer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "loss": loss, "mib": peak}


def child(side: str, stage: str, shape: str) -> dict[str, Any]:
    """`run` in a process of its own."""
    command = [sys.executable, "-m", "bench.pairs", "--run", side, "--stage", stage, "--shape", shape]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(stage: str, shape: str, rounds: int) -> str:
    """A row of the table."""
    pairs = [(child("ours", stage, shape), child("TRL", stage, shape)) for _ in range(rounds)]
    ratios = [b["seconds"] / a["seconds"] for a, b in pairs]
    own, other = [statistics.median(pair[i]["seconds"] for pair in pairs) for i in (0, 1)]
    memory = [statistics.median(pair[i]["mib"] for pair in pairs) for i in (0, 1)]
    losses = [pairs[0][i]["loss"] for i in (0, 1)]
    return (
        f"| {stage} | {shape} | {own:.2f} | {other:.2f} | {trainers.spread(ratios)} "
        f"| {AIMS[shape]} | {memory[0]:.0f} | {memory[1]:.0f} | {losses[0]:.5f} | {losses[1]:.5f} |"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--run", choices=trainers.SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.run:
        with tempfile.TemporaryDirectory(prefix="alignlaunch-pairs-") as folder:
            print(json.dumps(run(options.run, options.stage, options.shape, folder)))
        return
    lines = [
        "| stage | prompt : answer | ours, s a step | TRL, s a step | TRL / ours (spread) | aim | ours, MiB | TRL, MiB "
        "| ours, first loss | TRL, first loss |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for stage in [options.stage] if options.stage else STAGES:
        for shape in [options.shape] if options.shape else SHAPES:
            lines.append(row(stage, shape, options.rounds))
            print(lines[-1], flush=True)
    text = PAGE.format(rounds=options.rounds, machine=platform.machine(), batch=BATCH) + "\n".join(lines) + "\n"
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
