"""safe_dpo on pictures in whole runs: two processes train as one does, and `eval` gives what training gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner
from tests.train.outputs.test_trained import alignlaunch, assert_same_evaluation

from .test_parity import TRAIN, WEIGHTS, assert_same


@pytest.fixture(scope="session")
def alone(gallery: Path, run_job: Runner) -> Callable[[str], Finished]:
    """One process with live scores; two accumulated micro-batches for the two processes."""

    @cache
    def run(weights: str) -> Finished:
        train = TRAIN | {"gradient_accumulation_steps": 2, "scores": "live", "eval_generate": 3}
        return see(run_job, f"seen-safe-alone-{weights}", weights, train=train | {"eval_max_new_tokens": 6})

    return run


def see(run_job: Runner, name: str, weights: str, **options: Any) -> Finished:
    data = {"train": ["seen_safe.jsonl"], "validation": ["seen_safe_eval.jsonl"], "cache_dir": f"cache-{name}"}
    return run_job(name, stage="safe_dpo", model="llava", data=data, **WEIGHTS[weights], **options)


@pytest.mark.parametrize(
    ("weights", "scores", "zero"),
    [
        matrix("full", "precomputed", None),
        matrix("full", "live", "zero2.json"),
        matrix("full", "live", "zero3.json"),
        matrix("full", "precomputed", "zero3.json"),
        matrix("lora", "live", None),
        matrix("lora", "live", "zero3.json"),
        matrix("lora", "precomputed", "zero3.json"),
    ],
)
def test_two_processes_equal_one(
    weights: str, scores: str, zero: str | None, run_job: Runner, alone: Callable[[str], Finished]
) -> None:
    name = f"seen-safe-two-{weights}-{scores}-{zero}"
    found = see(run_job, name, weights, train=TRAIN | {"scores": scores}, nproc=2, zero=zero)
    assert_same(found, alone(weights))
    assert found.logged("kl")[-1] > 1e-4


@pytest.mark.parametrize("weights", ["full", matrix("lora")])
def test_eval_gives_what_training_gave_at_its_end(
    weights: str, alone: Callable[[str], Finished], tmp_path: Path
) -> None:
    """Compared with the model that training started from, and the answers judged again."""
    run = alone(weights)
    assert run.code == 0, run.stdout + run.stderr
    judged = run.output_dir / "safety_eval.json"
    before = judged.read_text()
    judged.unlink()
    done = alignlaunch(tmp_path, "eval", run.output_dir, "--json", XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    evaluated = json.loads(done.stdout)
    assert_same_evaluation(run, evaluated)
    assert evaluated["metrics"]["kl"] > 1e-4
    assert json.loads(judged.read_text()) == json.loads(before)
