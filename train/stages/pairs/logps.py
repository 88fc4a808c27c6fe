"""Log-probabilities of the answers in a batch of pairs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it


def token_logps(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """log p of each token but the first, (N, T - 1), in nats and fp32, by one forward for both sides.

    Two forwards would reduce each gradient twice (DeepSpeed#988).
    """
    seen = inputs.get("images", {})
    outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **seen, use_cache=False)
    targets = inputs["input_ids"][:, 1:]
    logits = outputs.logits[:, :-1].float()
    return -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
