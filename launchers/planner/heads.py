"""Memory of the output head and the loss.

`tokens`: log-probabilities of tokens, from whole logits where these are small (`train.model.next_token`), else by TRL
in tiles, which never hold all logits (trl.kernels.chunked_logprob). `score` (rm): one value for each sequence.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from alignlaunch.train.config import Stage
from alignlaunch.train.model.logits import are_whole

from .activations import Compute
from .architecture.shapes import Architecture

Kind = Literal["tokens", "score"]
KINDS: dict[Stage, Kind] = {
    "pt": "tokens",
    "sft": "tokens",
    "dpo": "tokens",
    "orpo": "tokens",
    "safe_dpo": "tokens",
    "rm": "score",
}
#: Size of a tile in TRL's head: (tokens, vocabulary entries).
TILE = (4096, 32768)


class Head(NamedTuple):
    """Bytes of the head at the end of the forward pass, and at the start of the backward pass."""

    forward: float
    backward: float


def memory(kind: Kind, arch: Architecture, how: Compute, tokens: int) -> Head:
    """The head's memory for `tokens` tokens of one process."""
    if kind == "score":
        return Head(0, 0)
    if are_whole(tokens, arch.vocab):
        # In fp32: forward the logits and their probabilities; backward the gradient in the place of these, and its copy
        # in 16 bits where the head computes in them. `copy`: autocast's of the head's weight.
        copy = how.compute * arch.vocab * arch.hidden if how.autocast and how.trained else 0
        cast = 2 if how.compute == 2 else 0
        return Head(8 * tokens * arch.vocab + copy, (4 + cast) * tokens * arch.vocab + copy)
    tile = how.compute * min(tokens, TILE[0]) * TILE[1]
    if how.stream > how.compute:  # each tile casts its slice of the fp32 weight
        tile += how.compute * min(arch.vocab, TILE[1]) * arch.hidden
    hidden = how.stream * tokens * arch.hidden
    # The weight's gradient, accumulated in fp32, and its copy where the weights are in 16 bits.
    weight = (4 + (2 if how.stream == 2 else 0)) * arch.vocab * arch.hidden if how.trained else 0
    return Head(hidden + tile, hidden + tile + 4 * tokens * arch.hidden + weight)


def adds_in_place(arch: Architecture, how: Compute, tokens: int) -> bool:
    """Whether autograd adds a tied embedding's gradient into that of the head; else their sum is one table more.

    It does not add into a transposed view, which is what a plain matrix product's gradient is. Autocast's cast and
    TRL's tiles make tensors of their own. tests/train/model/test_tied.py looks at real tensors.
    """
    return how.autocast or not are_whole(tokens, arch.vocab)
