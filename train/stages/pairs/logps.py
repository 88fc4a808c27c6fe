"""Log-probabilities of the answers in a batch of pairs."""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.utils import add_fused_lm_head

from ...model import next_token
from ...model.adapter import base_of
from ...reporting import say
from . import shared


def prepare(model: Any) -> None:
    """Make a model ready for `token_logps`, where it can with the prompt of each pair computed once."""
    add_fused_lm_head(base_of(model))
    next_token.install(model)
    share(model)


def share(model: Any) -> None:
    """Have a model compute the prompt of each pair once, or say why it cannot."""
    if why := shared.install(model):
        say(f"the prompt of a pair is computed for each answer: {why}")


def token_logps(model: Any, inputs: dict[str, Any], asked: torch.Tensor) -> torch.Tensor:
    """log p of each token but the first, (N, T - 1), in nats and fp32, by one forward for both sides.

    asked (N, T): 1 for the tokens whose log p is wanted; that of others is 0. Two forwards would reduce each gradient
    twice (DeepSpeed#988).
    """
    found = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        **inputs.get("images", {}),
        labels=inputs["input_ids"].masked_fill(asked == 0, next_token.NOT_ASKED),
        use_cache=False,
        fused_lm_head=True,
    )
    logps: torch.Tensor = found.log_probs
    return logps
