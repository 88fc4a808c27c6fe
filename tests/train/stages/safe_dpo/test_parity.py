"""safe_dpo in real processes: two train what one trains, lambda included, however the scores come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import tolerance
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner

RM = {"helpful_reward_model": "helpful", "harmless_reward_model": "harmless"}
# Large steps of lambda, so that a process which counted only its own costs would soon differ.
TRAIN: dict[str, Any] = RM | {
    "max_steps": 3,
    "learning_rate": 0.003,
    "lambda_lr": 0.5,
    "beta": 0.3,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "per_device_eval_batch_size": 2,
}
DATA = {"train": ["safe.jsonl"], "validation": ["safe_eval.jsonl"], "cache_dir": "cache"}
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all"}
WEIGHTS: dict[str, Any] = {"full": {}, "lora": {"lora": LORA}}
METRICS = ("loss", "grad_norm", "lambda", "cost", "kl", "helpful_loss", "safe_loss", "eval_loss", "eval_safety/margins")


@pytest.fixture(scope="session")
def alone(run_job: Runner) -> dict[str, Finished]:
    """One process with live scores; two accumulated micro-batches for the two processes."""
    train = TRAIN | {"gradient_accumulation_steps": 2, "scores": "live"}
    return {
        name: run_job(f"alone-safe-{name}", stage="safe_dpo", train=train, data=DATA, **weights)
        for name, weights in WEIGHTS.items()
    }


def assert_same(found: Finished, expected: Finished) -> None:
    assert found.code == 0, found.stdout + found.stderr
    assert expected.code == 0, expected.stdout + expected.stderr
    for name in METRICS:
        assert len(expected.logged(name)) >= 2, name
        within = tolerance.of(name)
        assert found.logged(name) == pytest.approx(expected.logged(name), abs=within, rel=within), name


@pytest.mark.parametrize(
    ("weights", "zero"),
    [
        ("full", None),
        matrix("full", "zero1.json"),
        matrix("full", "zero2.json"),
        matrix("full", "zero3.json"),
        matrix("lora", None),
        matrix("lora", "zero3.json"),
    ],
)
def test_two_processes_with_live_scores(
    weights: str, zero: str | None, run_job: Runner, alone: dict[str, Finished]
) -> None:
    found = run_job(
        f"two-safe-live-{weights}-{zero}",
        nproc=2,
        zero=zero,
        stage="safe_dpo",
        train=TRAIN | {"scores": "live"},
        data=DATA,
        **WEIGHTS[weights],
    )
    assert_same(found, alone[weights])
    assert len(set(found.logged("lambda"))) == TRAIN["max_steps"]
    assert found.logged("kl")[0] == pytest.approx(0, abs=1e-9)
    assert found.logged("kl")[-1] > 1e-4


@pytest.mark.parametrize(
    ("weights", "zero"), [matrix("full", None), ("lora", "zero3.json"), matrix("full", "zero3.json")]
)
def test_two_processes_with_precomputed_scores(
    weights: str, zero: str | None, run_job: Runner, alone: dict[str, Finished]
) -> None:
    name = f"two-safe-columns-{weights}-{zero}"
    data = DATA | {"cache_dir": f"cache-{name}"}
    found = run_job(name, nproc=2, zero=zero, stage="safe_dpo", train=TRAIN, data=data, **WEIGHTS[weights])
    assert_same(found, alone[weights])
    for scored in ("reference", "helpful", "harmless"):
        assert f"scoring {scored}: shard 2 of 2" in found.stdout  # training and evaluation rows


def test_a_resumed_run_goes_on_with_its_lambda_and_its_scores(run_job: Runner) -> None:
    train = TRAIN | {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
    data = {"train": ["safe.jsonl"], "cache_dir": "cache-resumed"}
    first = run_job("safe-resumed", stage="safe_dpo", train=train, data=data)
    assert first.code == 0, first.stderr
    assert "scoring harmless: shard 1 of 1" in first.stdout
    saved = json.loads((first.output_dir / "checkpoint-2" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["lambda"]["value"] == pytest.approx(first.logged("lambda")[1])
    (first.output_dir / "checkpoint-4" / "checkpoint-is-incomplete.txt").touch()
    second = run_job("safe-resumed", stage="safe_dpo", train=train, data=data, env={"SLURM_RESTART_COUNT": "1"})
    assert second.code == 0, second.stderr
    assert "resuming from out/safe-resumed/checkpoint-2" in second.stdout
    assert "scoring" not in second.stdout
    for name in ("lambda", "loss", "cost"):
        assert second.logged(name) == first.logged(name)
