"""Resumed runs beside one that was never interrupted: `python -m bench.resumes [--only TEXT...] [--write FILE]`.

Every stage under DDP and ZeRO-1, 2 and 3, in two processes started by torchrun. The undisturbed run keeps a checkpoint
of each step; from five of them the job is resumed, and each record that it writes is held against the undisturbed
run's, as text. Exits 1 if one differs. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tiny import make_model, make_reward_model, write_data
from tests.train.conftest import Finished, environment, launcher, write_job, zero_json

from .made_page import table

PROCESSES = 2
#: Of two epochs. The last step of each has one micro-batch less than the others.
STEPS = 8
PHASES = {
    1: "after the first step",
    2: "within the first epoch",
    4: "at its end",
    5: "after the first step of the second",
    7: "before the last step",
}
LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
TRAIN: dict[str, Any] = {
    **{"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
    **{"lr_scheduler_type": "cosine", "warmup_steps": 2, "learning_rate": 0.003, "max_length": 64},
    # The records of the log, the evaluations and the ends of the epochs fall on other steps.
    **{"logging_steps": 2, "eval_strategy": "steps", "eval_steps": 3},
    **{"save_strategy": "steps", "save_steps": 1, "save_total_limit": None},
}
REWARD_MODELS = {"helpful_reward_model": "helpful", "harmless_reward_model": "harmless"}
#: Each stage's data, and what it needs besides. 13 sequences are 7 micro-batches of one process: 4 steps.
STAGES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "pt": ("texts", 19, {"max_length": 62}),
    "sft": ("sft", 13, {}),
    "rm": ("rated", 13, {}),
    "dpo": ("pairs", 13, {}),
    "orpo": ("pairs", 13, {}),
    "safe_dpo": ("safe", 13, REWARD_MODELS),
}
ZERO = {"DDP": None, **{f"ZeRO-{stage}": zero_json(stage) for stage in (1, 2, 3)}}
HEAD = """\
Each row is a job of a tiny model in {processes} processes: {steps} steps in two epochs, each step of {accumulation}
micro-batches, but the last of an epoch of one; with dropout, warm-up and a schedule, a record every {logging_steps}
steps and an evaluation every {eval_steps}. It ran once from start to end, and again from its checkpoints after the
steps {phases}. *Same*: all that the resumed run wrote into `metrics.jsonl` (losses, gradient norms,
learning rates, λ, rewards, evaluations) is, digit for digit, what the undisturbed run wrote, but for speed and memory;
in brackets the number of values.

Tried with {versions}, on a CPU."""


@dataclass(frozen=True)
class Case:
    """A job. weights: full or LoRA."""

    stage: str
    zero: str
    weights: str

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.zero}/{self.weights}"


CASES = [
    *(Case(stage, zero, "LoRA") for stage in STAGES for zero in ZERO),
    *(Case("sft", zero, "full") for zero in ZERO),
]


def prepare(place: Path) -> None:
    """Make models and data."""
    make_model(place / "model")
    for seed, name in enumerate(REWARD_MODELS.values(), 1):
        make_reward_model(place / name, place / "model", seed)
    write_data(place)
    for zero, found in ZERO.items():
        (place / f"{zero}.json").write_text(json.dumps(found))


def run(place: Path, case: Case, name: str, **changes: Any) -> Finished:
    """Run a job. Raises RuntimeError with its last words if it fails."""
    data, records, more = STAGES[case.stage]
    sources = {role: [f"{data}.jsonl"] for role in ("train", "validation")}
    limits = {"max_train_samples": records, "max_eval_samples": 5}
    job = write_job(
        place,
        name,
        stage=case.stage,
        lora=LORA if case.weights == "LoRA" else None,
        data=sources | limits | {"cache_dir": "cache"},
        train=TRAIN | more,
        **changes,
    )
    zero = f"{case.zero}.json" if ZERO[case.zero] else "none"
    command = [sys.executable, *launcher(PROCESSES), "-m", "alignlaunch.train", str(job), "--deepspeed", zero]
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-4000:]}")
    return Finished(done.returncode, done.stdout, done.stderr, place / "out" / name)


def compare(place: Path, case: Case) -> Iterator[str]:
    """Each phase's cell of the table."""
    name = case.name.replace("/", "-")
    whole = run(place, case, name)
    if whole.records()[-1]["max_steps"] != STEPS:
        raise RuntimeError(f"{name}: {whole.stdout}")
    with ThreadPoolExecutor(2) as pool:
        resumed = pool.map(lambda n: run(place, case, f"{name}-{n}", resume=f"out/{name}/checkpoint-{n}"), PHASES)
        runs = dict(zip(PHASES, resumed, strict=True))
    for step, again in runs.items():
        wanted, found = whole.values(step), again.values(step)
        differ = [key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)]
        for key in differ:
            print(f"    {case.name} from {step}: {key}: {found.get(key)}, undisturbed {wanted.get(key)}")
        yield f"**{len(differ)} of {len(wanted)} differ**" if differ else f"same ({len(wanted)})"


def main() -> None:
    """Try the cases, print each row, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only cases with one of these in their names")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of all cases to FILE")
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--write: the page is of all cases; leave out --only")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for case in CASES:
            if options.only and not any(text in case.name for text in options.only):
                continue
            begin = time.monotonic()
            rows[case] = list(compare(Path(folder), case))
            print(f"{case.name}: {', '.join(rows[case])} ({time.monotonic() - begin:.0f} s)", flush=True)
    if options.write:
        options.write.write_text("\n".join(page(rows)) + "\n", encoding="utf-8")
    sys.exit(any("differ" in cell for row in rows.values() for cell in row))


def page(rows: dict[Case, list[str]]) -> Iterator[str]:
    """The page's lines."""
    from alignlaunch.train.outputs.saving import versions

    yield "<!-- Made by `make resumes`. Do not edit. -->"
    yield "# Losses after a resume"
    yield ""
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    facts = {"processes": PROCESSES, "steps": STEPS, "phases": ", ".join(map(str, PHASES)), "versions": used}
    yield from HEAD.format(**TRAIN, **facts, accumulation=TRAIN["gradient_accumulation_steps"]).splitlines()
    head = ["stage", "weights", "state", *(f"{step}: {phase}" for step, phase in PHASES.items())]
    yield from table(head, [[case.stage, case.weights, case.zero, *cells] for case, cells in rows.items()])


if __name__ == "__main__":
    main()
