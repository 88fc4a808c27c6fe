"""Whether logits are small enough to be held whole. (No torch here, because the planner asks, too.)"""

from __future__ import annotations

#: Bytes of the largest logits in fp32. The loss and its backward hold up to two and a half times as many.
LARGEST = 1 << 30


def are_whole(tokens: int, vocabulary: int) -> bool:
    """Whether the logits of so many tokens are held whole; else the head is computed in tiles, twice."""
    return 4 * tokens * vocabulary <= LARGEST
