"""The memory of the loss: what stands between the last hidden states and one number.

`fused` (pt, sft, dpo): TRL's head computes log-probabilities in tiles and never holds the logits
(trl.kernels.chunked_logprob). `logits` (orpo, safe_dpo): `train.pairs.token_logps` holds them. `score` (rm): a number
a sequence.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from alignlaunch.train.config import Stage

from .activations import Compute
from .architecture.shapes import Architecture

Kind = Literal["fused", "logits", "score"]
KINDS: dict[Stage, Kind] = {
    "pt": "fused",
    "sft": "fused",
    "dpo": "fused",
    "orpo": "logits",
    "safe_dpo": "logits",
    "rm": "score",
}
#: A tile of TRL's head: tokens by vocabulary.
TILE = (4096, 32768)


class Head(NamedTuple):
    """Bytes at the end of the forward pass, and at the start of the backward pass."""

    forward: float
    backward: float


def memory(kind: Kind, arch: Architecture, how: Compute, tokens: int) -> Head:
    """Bytes for this many tokens."""
    if kind == "score":
        return Head(0, 0)
    if kind == "logits":
        # fp32 logits, the part of them that is scored, their log-softmax; then its gradient and that of the logits.
        copy = how.compute * arch.vocab * arch.hidden if how.autocast and how.trained else 0
        return Head(12 * tokens * arch.vocab + copy, 12 * tokens * arch.vocab + copy)
    tile = how.compute * min(tokens, TILE[0]) * TILE[1]
    if how.stream > how.compute:  # a slice of the fp32 weights is cast for each tile
        tile += how.compute * min(arch.vocab, TILE[1]) * arch.hidden
    hidden = how.stream * tokens * arch.hidden
    weight = 4 * arch.vocab * arch.hidden if how.trained else 0  # its gradient is accumulated in fp32
    return Head(hidden + tile, hidden + tile + 4 * tokens * arch.hidden + weight)
