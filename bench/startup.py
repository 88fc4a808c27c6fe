"""Where the CPU seconds of one training process go until its first step is done, and what keeping packages out saves.

Each run is the real entrypoint on a tiny random model, in a process of its own; `before` has every package imported
that transformers, accelerate and PEFT import by themselves. `--write docs/startup.md` writes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

#: In the order of the entrypoint. What a phase makes others import counts as its own.
PHASES = (
    "python, the job file, import torch",
    "import transformers' Trainer",
    "import the stage (TRL)",
    "import PEFT",
    "import DeepSpeed",
    "tokenizer and model",
    "data",
    "trainer and first step",
    "saving, leaving, the rest",
)

# Runs the entrypoint; notes CPU seconds between the phases. argv: --before|--after, modules to import, job, options.
PROGRAM = """
import json, os, sys

def cpu():
    times = os.times()
    return times.user + times.system

spent, last = {}, 0.0
def phase(name):
    global last
    now = cpu()
    spent[name] = spent.get(name, 0.0) + now - last
    last = now

def timed(owner, function, before, name):
    inner = getattr(owner, function)
    def outer(*args, **kwargs):
        phase(before)
        try:
            return inner(*args, **kwargs)
        finally:
            phase(name)
    setattr(owner, function, outer)

mode, modules, *argv = sys.argv[1:]
phases = json.loads(os.environ["PHASES"])
start, trainer, stage, peft, deepspeed, model, data, step, rest = phases
from alignlaunch.train import __main__ as entrypoint, finish, imports
from alignlaunch.train.processes import rendezvous
from alignlaunch.train.stages import registry
if mode == "--before":
    imports.keep_out = lambda names: None
initialise, load = rendezvous.initialise, registry.load

def first(*args):
    import torch
    initialise(*args)
    phase(start)
    from transformers import Trainer
    phase(trainer)
    registry.load(os.environ["STAGE"])
    phase(stage)
    for name, module in ((peft, "peft"), (deepspeed, "deepspeed")):
        if module in modules:
            __import__(module)
            phase(name)
    from alignlaunch.train import session
    from alignlaunch.train.model import loading as models
    timed(models, "load_tokenizer", rest, model)
    timed(models, "load_model", rest, model)
    timed(session, "rows", rest, data)
    timed(registry.load(os.environ["STAGE"]), "trainer", rest, step)
    timed(Trainer, "train", rest, step)

rendezvous.initialise = first
code = entrypoint.run(argv)
phase(rest)
print("SPENT " + json.dumps(spent), file=sys.stderr, flush=True)
finish.leave(code)
"""

#: What is measured: name → (stage, changes of the job, modules that it needs, options).
RUNS: dict[str, tuple[str, dict[str, object], str, list[str]]] = {
    "orpo": ("orpo", {}, "", []),
    "sft": ("sft", {}, "", []),
    "sft, LoRA": ("sft", {"lora": {"r": 4}}, "peft", []),
    "sft, ZeRO-2": ("sft", {}, "deepspeed", ["--deepspeed", "zero2.json"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alignlaunch-bench-") as scratch:
        text = report(Path(scratch), options.rounds)
    print(text, end="")
    if options.write:
        made_by = f"<!-- Made by `python bench/startup.py --write {options.write}`. Do not edit. -->\n"
        options.write.write_text(f"{made_by}# Cost of starting\n\n{text}", encoding="utf-8")


def report(folder: Path, rounds: int) -> str:
    """Measure every run before and after, interleaved, and write the tables."""
    prepare(folder)
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for name in RUNS:
        measure(folder, name, "--before")  # not counted: leaves bytecode and prepared data for all
    for _ in range(rounds):
        for name in RUNS:
            for mode in ("--before", "--after"):
                measured.setdefault((name, mode), []).append(measure(folder, name, mode))
    columns = [(name, mode) for name in RUNS for mode in ("--before", "--after")]
    rows = [
        ("phase", *(f"{name}: {mode.removeprefix('--')}" for name, mode in columns)),
        ("---", *("--:" for _ in columns)),
        *((phase, *(shown([run.get(phase) for run in measured[column]]) for column in columns)) for phase in PHASES),
        ("all (least to most)", *(spread([sum(run.values()) for run in measured[column]]) for column in columns)),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""CPU seconds (user and system) of one process, from its start to its end after one training step on a tiny
model: median of {rounds} rounds, every run once a round, before and after interleaved. A phase has what it is the first
to import. `before`: everything that transformers, accelerate and PEFT import where it is installed; `after`: as it is,
without what the job has no use for (`train/imports.py`).

{table}

Why PEFT seems to cost so much when it is imported alone: nearly all of it is transformers' Trainer and torch's dynamo
and distributed tensors, which a training process needs in any case. PEFT's own modules are a small part; the large one
that can be saved is bitsandbytes, which PEFT imports wherever it is installed, and which brings torch's inductor. Under
ZeRO nothing of that is saved: DeepSpeed imports the inductor by itself, in the first step.

Machine: {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {versions()}.
"""


def prepare(folder: Path) -> None:
    """A tiny model, its data, and a DeepSpeed configuration."""
    from tests.support.tiny import make_model, write_data

    make_model(folder / "model")
    write_data(folder)
    (folder / "zero2.json").write_text((ROOT / "zero_configs" / "zero2.json").read_text())


def measure(folder: Path, name: str, mode: str) -> dict[str, float]:
    """One run; CPU seconds by phase."""
    stage, changes, modules, options = RUNS[name]
    train = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "bf16": False, "logging_steps": 1}
    data = {"train": ["sft.jsonl" if stage == "sft" else "pairs.jsonl"], "cache_dir": "cache"}
    job = {"name": "x", "stage": stage, "model": "model", "data": data, "output_dir": "out", "train": train, **changes}
    (folder / "job.yaml").write_text(json.dumps(job))  # JSON is YAML
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "RANK", "LOCAL_", "WORLD"))
    }
    env = kept | {"PYTHONPATH": str(ROOT / "src"), "STAGE": stage, "PHASES": json.dumps(PHASES), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PROGRAM, mode, modules, "job.yaml", *options]
    process = subprocess.run(
        command, cwd=folder, env=env | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    lines = [line for line in process.stderr.splitlines() if line.startswith("SPENT ")]
    if process.returncode or not lines:
        raise SystemExit(f"{name}: exit code {process.returncode}\n{process.stderr}")
    spent: dict[str, float] = json.loads(lines[0].removeprefix("SPENT "))
    return spent


def shown(values: Sequence[float | None]) -> str:
    seconds = [value for value in values if value is not None]
    return f"{statistics.median(seconds):.2f}" if seconds else "–"


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "deepspeed"))


if __name__ == "__main__":
    main()
