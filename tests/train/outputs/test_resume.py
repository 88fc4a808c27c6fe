"""An interrupted run goes on as if nothing had happened, under ZeRO too; what cannot be resumed is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner

pytestmark = pytest.mark.matrix  # many real runs: `make test` is to stay short

LORA = {"r": 4, "alpha": 8, "dropout": 0.05}
TRAIN = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "linear"}


@pytest.fixture(scope="module")
def first(run_job: Runner) -> Callable[..., tuple[str, Finished, dict[str, Any]]]:
    """The name of a whole run of two processes, what it left, and how it was started."""

    @cache
    def run(stage: str, zero: str | None, adapted: bool) -> tuple[str, Finished, dict[str, Any]]:
        name = f"resumed-{stage}-{zero}-{adapted}"
        changes = {"nproc": 2, "zero": zero, "stage": stage, "lora": LORA if adapted else None, "train": TRAIN}
        found = run_job(name, **changes, env={"SLURM_JOB_ID": "7"})
        assert found.code == 0, found.stderr
        return name, found, changes

    return run


@pytest.mark.parametrize(
    ("stage", "zero", "adapted"),
    [
        matrix("sft", None, False),
        matrix("sft", "zero1.json", False),
        matrix("sft", "zero2.json", False),
        ("sft", "zero3.json", False),
        matrix("dpo", "zero2.json", True),
        matrix("orpo", "zero3.json", True),
        matrix("rm", "zero3.json", True),
    ],
)
def test_a_restarted_run_of_two_processes_loses_nothing(
    stage: str, zero: str | None, adapted: bool, first: Any, run_job: Runner
) -> None:
    name, whole, changes = first(stage, zero, adapted)
    losses, norms = whole.logged("loss"), whole.logged("grad_norm")
    # As if it had been killed while it wrote its last checkpoint.
    (whole.output_dir / "checkpoint-4" / "checkpoint-is-incomplete.txt").touch()
    again = run_job(name, **changes, env={"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    assert again.code == 0, again.stderr
    assert f"resuming from out/{name}/checkpoint-2" in again.stdout
    assert "step 2/4" not in again.stdout
    assert (again.logged("loss"), again.logged("grad_norm")) == (losses, norms)


@pytest.mark.parametrize(
    ("nproc", "zero", "here"),
    [
        (1, "zero3.json", "1 process(es) under ZeRO-3"),
        matrix(2, "zero2.json", "2 process(es) under ZeRO-2"),
        matrix(1, None, "1 process(es) under DDP"),
    ],
)
def test_a_checkpoint_that_was_split_otherwise_is_refused(
    nproc: int, zero: str | None, here: str, first: Any, run_job: Runner
) -> None:
    checkpoint = f"out/{first('sft', 'zero3.json', False)[0]}/checkpoint-2"
    train = TRAIN | {"resume_from_checkpoint": checkpoint}
    found = run_job(f"split-{nproc}-{zero}", nproc=nproc, zero=zero, train=train)
    assert found.code == (2 if nproc == 1 else 1)  # torchrun's own
    held = f"{checkpoint}: cannot be resumed: it holds the optimizer state of 2 process(es) under ZeRO-3, and this run"
    assert f"{held} has {here}" in found.stderr
    assert found.stderr.count("start a new run from its weights") == 1
    assert "session.py" not in found.stderr, "a traceback of ours"


@pytest.mark.parametrize("zero", [matrix("zero2.json")])
def test_a_new_run_from_its_weights(zero: str, first: Any, run_job: Runner) -> None:
    """The remedy that the refusal names."""
    name, whole, _ = first("sft", "zero3.json", False)
    found = run_job("split-anew", nproc=2, zero=zero, model=f"out/{name}/checkpoint-2", train={"max_steps": 1})
    assert found.code == 0, found.stderr
    assert found.logged("loss")[0] < whole.logged("loss")[0] - 0.1, "the first batch is the same"
