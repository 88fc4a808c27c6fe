"""A checkpoint is gone on from by another number of processes with the steps that it began with, or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignlaunch.train import batch
from alignlaunch.train.batch import StepBatch
from alignlaunch.train.errors import UserError
from tests.support import tolerance

from .conftest import Runner

CHECKPOINT = Path("out/checkpoint-2")


def arguments(per_device: int, accumulation: int, **others: Any) -> Any:
    return SimpleNamespace(
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy=others.get("sampling", "random"),
        dataloader_drop_last=others.get("drop_last", False),
    )


@pytest.mark.parametrize(
    ("before", "now", "asked", "kept"),
    [
        (2, 2, (2, 1), (2, 1)),
        (2, 1, (2, 1), (2, 2)),
        (
            1,
            2,
            (2, 1),
            (1, 1),
        ),  # half a step a process: a smaller micro-batch, as there is nothing to accumulate less of
        (4, 3, (3, 2), (2, 4)),
        (2, 8, (4, 4), (4, 1)),
        (8, 2, (4, 1), (4, 4)),
    ],
)
def test_a_step_keeps_its_records(before: int, now: int, asked: tuple[int, int], kept: tuple[int, int]) -> None:
    args = arguments(*asked)
    first = StepBatch(before * asked[0] * asked[1], [*asked], before)
    found = batch.keep(args, first, batch.of(args, now), CHECKPOINT)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == kept
    assert found == StepBatch(now * kept[0] * kept[1], [*asked], now)
    assert found.records == first.records
    again = arguments(*asked)  # a third attempt, by as many as at first
    assert batch.keep(again, found, batch.of(again, before), CHECKPOINT).records == first.records
    assert (again.per_device_train_batch_size, again.gradient_accumulation_steps) == asked


def test_the_user_may_split_the_step_himself() -> None:
    args = arguments(1, 4)
    assert batch.keep(args, StepBatch(4, [2, 1], 2), batch.of(args, 1), CHECKPOINT) == StepBatch(4, [1, 4], 1)


@pytest.mark.parametrize(
    ("args", "now", "words"),
    [
        (arguments(2, 1), 3, "its steps have 4 records, .* Resume it with 1, 2, 4 process"),
        (arguments(2, 4), 2, "had steps of 4, .* Set them to 2 and 1 as before"),
        (arguments(2, 1, sampling="group_by_length"), 1, "group_by_length the order .* which was 2"),
        (arguments(2, 1, drop_last=True), 1, "train.dataloader_drop_last: True the order"),
    ],
)
def test_what_cannot_be_kept_is_refused(args: Any, now: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        batch.keep(args, StepBatch(4, [2, 1], 2), batch.of(args, now), CHECKPOINT)


def test_one_process_goes_on_where_two_were(run_job: Runner) -> None:
    """Saved at step 2 of 8, in the first of two epochs; then two processes again, at step 6."""
    train = {"save_strategy": "steps", "save_steps": 2, "max_steps": -1, "num_train_epochs": 2}
    changes: dict[str, Any] = {"train": train | {"lr_scheduler_type": "linear"}}
    whole = run_job("batch", nproc=2, **changes, env={"SLURM_JOB_ID": "7"})
    assert whole.code == 0, whole.stderr
    losses, epochs = whole.logged("loss"), whole.logged("epoch")
    for attempt, (step, nproc) in enumerate(((2, 1), (6, 2)), 1):
        for later in range(step + 2, 10, 2):  # as if it had been killed after that checkpoint
            (whole.output_dir / f"checkpoint-{later}" / "checkpoint-is-incomplete.txt").touch()
        env = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(attempt)}
        again = run_job("batch", nproc=nproc, **changes, env=env)
        assert again.code == 0, again.stderr
        assert f"resuming from out/batch/checkpoint-{step}" in again.stdout
        accumulation = 2 if nproc == 1 else 1
        assert f"batch_size 2 and gradient_accumulation_steps {accumulation} keep steps of 4" in again.stdout
        assert again.logged("epoch") == epochs
        assert again.logged("loss") == pytest.approx(losses, rel=tolerance.of("loss"))
