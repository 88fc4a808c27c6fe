"""Batches of pairs as TRL's DPOTrainer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference


@dataclass
class Collator(DataCollatorForPreference):
    """TRL's collator, but of an answer of several turns only the assistant's count, not tool results between them."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of B pairs; its `completion_mask` has shape (2 B, T), all chosen before all rejected."""
        batch: dict[str, Any] = super().torch_call(examples)
        sides = [(example, side) for side in ("chosen", "rejected") for example in examples]
        for row, (example, side) in zip(batch["completion_mask"], sides, strict=True):
            learnt = [False] * len(example["prompt_ids"]) + example[f"{side}_learnt"]
            cut = (
                slice(-self.max_length, None)
                if self.truncation_mode == "keep_end" and self.max_length
                else slice(None, self.max_length)
            )
            marks = torch.tensor(learnt[cut], dtype=row.dtype)
            row[: len(marks)] *= marks
        return batch
