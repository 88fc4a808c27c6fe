"""The global batch: the records of one optimizer step, over all ranks and accumulated micro-batches.

Learning rate schedule and data order depend on it, so a run that resumes from a checkpoint keeps its batch. Then each
step has the same records, whatever the number of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerCallback

from .errors import UserError

_KEY = "batch"  # in trainer_state.json, beside the states of transformers' own callbacks
#: Arguments with the values with which the order of the records depends on the number of ranks.
_ORDERING = {"train_sampling_strategy": ("group_by_length", "batch_rebalance"), "dataloader_drop_last": (True,)}


class StepBatch(NamedTuple):
    """The batch of one optimizer step.

    records: over all ranks and micro-batches. asked: the job's per_device_train_batch_size and
    gradient_accumulation_steps. processes: the world size.
    """

    records: int
    asked: Sequence[int]
    processes: int


class BatchRecorder(TrainerCallback):
    """Put the batch into the trainer's state, which each checkpoint saves."""

    def __init__(self, batch: StepBatch) -> None:
        self._batch = batch

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the batch only now, because resuming has loaded the checkpoint's state, with the earlier run's batch."""
        del args, control, kwargs
        state.stateful_callbacks[_KEY] = self._batch._asdict()


def of(args: Any, processes: int) -> StepBatch:
    """The batch that training arguments ask for."""
    asked = [args.per_device_train_batch_size, args.gradient_accumulation_steps]
    return StepBatch(processes * asked[0] * asked[1], asked, processes)


def saved(checkpoint: Path) -> StepBatch | None:
    """The batch of the run that wrote a checkpoint; None if the checkpoint does not record it."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    found = state.get("stateful_callbacks", {}).get(_KEY)
    return StepBatch(**found) if found else None


def keep(args: Any, before: StepBatch, now: StepBatch, checkpoint: Path) -> StepBatch:
    """Set micro-batch and gradient accumulation in `args` so that a step has as many records as `before`.

    The micro-batch is at most the one that the job asks for, which is known to fit into memory. Returns the batch of
    this run. Raises UserError if the records cannot be split evenly over the ranks, if the job itself asks for another
    batch, or if the order of the records would depend on the number of ranks.
    """
    if before.records == now.records and before.processes == now.processes:
        return now
    cannot = f"{checkpoint}: cannot be resumed by {now.processes} process(es)"
    anew = f"or start a new run from its weights: `model: {checkpoint}`."
    if list(before.asked) != list(now.asked) and before.records != now.records:
        raise UserError(
            f"train.per_device_train_batch_size: {now.asked[0]} with gradient_accumulation_steps: {now.asked[1]} in "
            f"{now.processes} process(es) makes steps of {now.records} records; {checkpoint} had steps of "
            f"{before.records}, and schedule and data order follow from it. Set them to {before.asked[0]} and "
            f"{before.asked[1]} as before, {anew}",
            everywhere=True,
        )
    for key, values in _ORDERING.items():
        value = getattr(args, key)
        if value in values:
            raise UserError(
                f"{cannot}: with train.{key}: {value} the order of the records follows from the number of processes, "
                f"which was {before.processes}. Resume it with as many, {anew}",
                everywhere=True,
            )
    fitting = [size for size in range(now.asked[0], 0, -1) if before.records % (now.processes * size) == 0]
    if not fitting:
        counts = [n for n in range(1, before.records + 1) if before.records % n == 0]
        raise UserError(
            f"{cannot}: its steps have {before.records} records, and these are to be the same number in each process. "
            f"Resume it with {', '.join(map(str, counts))} process(es), {anew}",
            everywhere=True,
        )
    args.per_device_train_batch_size = fitting[0]
    args.gradient_accumulation_steps = before.records // (now.processes * fitting[0])
    return now._replace(records=before.records)
