"""LoRA training of a 7B model on one GPU: sft, dpo, orpo and rm, TRL's trainers beside them, and the plan.

    python -m bench.gpu [--stage sft] [--rounds 2] [--minutes 9] [--results FILE] [--write docs/bench-gpu.md]

It can be run in parts: each run adds a line to the results, and the page is made of all of them. Nothing is downloaded:
the weights are random, made on the GPU. Exit codes: 0; 1 if a run failed or was left out; 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import trainers

from . import one, table
from .shape import FULL, STAGES, TRIAL, Shape

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".cache" / "bench" / "gpu"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this one (may be given again)")
    parser.add_argument("--rounds", type=int, default=2, help="of both sides; 0: only make the page (default: 2)")
    parser.add_argument("--minutes", type=float, default=30, help="no run goes on for longer (default: 30)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines, added to (default: in .cache/)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of all results to FILE")
    parser.add_argument("--trial", action="store_true", help="the same code on the CPU, with a tiny model")
    parser.add_argument("--run", choices=trainers.SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = TRIAL if options.trial else FULL
    stages = options.stage or list(STAGES)
    if options.run:
        print(json.dumps(one.run(options.run, stages[0], shape)))
        return 0
    results = options.results or RESULTS / ("trial.jsonl" if options.trial else "results.jsonl")
    whole = True
    if options.rounds:
        if why := missing(shape):
            print(f"bench.gpu: {why}", file=sys.stderr)
            return 2
        whole = measure(stages, shape, options.rounds, time.monotonic() + 60 * options.minutes, results)
    try:
        text = table.page(read(results))
    except ValueError as error:
        print(f"bench.gpu: {results}: {error}", file=sys.stderr)
        return 1
    print(text, end="")
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 0 if whole else 1


def missing(shape: Shape) -> str:
    """What this machine has not, with the remedy; empty if nothing."""
    try:
        import datasets  # type: ignore[import-untyped]  # noqa: F401
        import peft  # noqa: F401
        import torch
        import trl  # noqa: F401
    except ImportError as error:
        return f"{error}: install what the `train` extra of pyproject.toml names, or carry its wheels"
    if shape.device == "cuda" and not torch.cuda.is_available():
        return "no GPU here: nothing was measured. `--trial` runs the same code on the CPU, with a tiny model"
    return ""


def measure(stages: list[str], shape: Shape, rounds: int, deadline: float, results: Path) -> bool:
    """Add a line to the results for each run; both sides of a stage in turn. Returns whether all ran to their end."""
    results.parent.mkdir(parents=True, exist_ok=True)
    about = {"shape": asdict(shape), "machine": one.machine()}
    first = 1 + max((run["round"] for run in read(results)), default=0)
    whole = True
    for number in range(first, first + rounds):
        for stage in stages:
            for side in trainers.SIDES:
                found = apart(side, stage, shape, deadline)
                if found is None:
                    print(f"bench.gpu: out of time: {stage}, {side}, round {number} is left out", file=sys.stderr)
                    whole = False
                    continue
                whole &= "failed" not in found
                line = {"stage": stage, "side": side, "round": number, **found, **about}
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{stage}, {side}, round {number}: {found}", file=sys.stderr, flush=True)
    return whole


def apart(side: str, stage: str, shape: Shape, deadline: float) -> dict[str, Any] | None:
    """`one.run` in a process of its own; {"failed": why} if it fails, None if it is not over in time."""
    left = deadline - time.monotonic()
    if left <= 0:
        return None
    command = [sys.executable, "-m", "bench.gpu", "--run", side, "--stage", stage, *(["--trial"] * (shape == TRIAL))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=left
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def read(results: Path) -> list[dict[str, Any]]:
    """The runs until now."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    sys.exit(main())
