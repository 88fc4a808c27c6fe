"""The reference's log-probabilities, computed once, before training, and kept beside the prepared data.

TRL's own are kept by the rows and the weights alone: a run with another `ld_alpha` or precision would read them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from ...reporting import say
from ..pairs import score_columns, start_model
from ..pairs.score_columns import Scorer

SIDES, NAME = ("ref_chosen", "ref_rejected"), "logps"
#: As TRL reads them.
COLUMNS = tuple(f"{side}_{NAME}" for side in SIDES)


def is_worth_keeping(args: Any, rows: Any) -> bool:
    """Whether training sees its pairs more than once, and says so. Live takes one more forward for each time."""
    a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    seen = args.max_steps * a_step / len(rows) if args.max_steps > 0 else args.num_train_epochs
    if seen <= 1 or args.sync_ref_model or "images" in rows.column_names:
        return False
    say(
        f"training sees each pair {seen:.3g} times, so the reference's log-probabilities are computed once, before it, "
        "and kept beside the data (`train.precompute_ref_log_probs: false` computes them while it trains)"
    )
    return True


def keep(trainer: Any) -> None:
    """Give a DPOTrainer's rows the columns, computed now unless an earlier run has done it. A collective."""
    args = trainer.args
    sets = [rows for rows in (trainer.train_dataset, trainer.eval_dataset) if rows is not None]
    depends_on = args.ld_alpha, args.max_length, args.truncation_mode
    found = score_columns.add(
        sets,
        SIDES,
        NAME,
        score_columns.of_start_model(trainer.model, trainer.processing_class, args, sys.modules[__name__], *depends_on),
        lambda: _scorer(trainer),
        trainer.data_collator,
        args,
        args.precompute_ref_batch_size or args.per_device_train_batch_size,
    )
    trainer.train_dataset = found[0]
    if trainer.eval_dataset is not None:
        trainer.eval_dataset = found[1]


@contextlib.contextmanager
def _scorer(trainer: Any) -> Iterator[Scorer]:
    with start_model.before_training(trainer.model, trainer.args) as begun:
        yield lambda inputs: torch.cat(trainer.compute_ref_log_probs(begun, inputs))
