"""The micro-batches with which an optimizer step has exactly the examples that it should have."""

from __future__ import annotations


def of(share: int) -> list[int]:
    """Every micro-batch that divides a process's `share` of a step, the largest first."""
    low = [micro for micro in range(1, int(share**0.5) + 1) if share % micro == 0]
    return sorted({*low, *(share // micro for micro in low)}, reverse=True)
