"""Batches of pairs: two answers to one prompt for one forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...data.encoding.tokens import Row

#: Tensors by name; under two names, `images` and `text`, it holds dicts of more tensors (see `images`).
Batch = dict[str, Any]
Collate = Callable[[list[Row]], Batch]


def collator(sides: tuple[str, str], pad_token_id: int) -> Collate:
    """A collator of pairs for one forward: all sequences of the first side, then all of the second.

    For B pairs the batch has `input_ids`, `attention_mask` and `answer_mask` (1: a token of the answer) of shape
    (2 B, T), padded on the right.
    """

    def collate(rows: list[Row]) -> Batch:
        sequences = [(row, side) for side in sides for row in rows]
        longest = max(len(row[f"{side}_input_ids"]) for row, side in sequences)
        input_ids = torch.full((len(sequences), longest), pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        answer_mask = torch.zeros_like(input_ids)
        for i, (row, side) in enumerate(sequences):
            ids = row[f"{side}_input_ids"]
            input_ids[i, : len(ids)] = torch.tensor(ids)
            attention_mask[i, : len(ids)] = 1
            answer_mask[i, : len(ids)] = torch.tensor(row[f"{side}_learnt"])
        return {"input_ids": input_ids, "attention_mask": attention_mask, "answer_mask": answer_mask}

    return collate
