"""Fewer points of a curve, so that a page stays small, without losing a peak."""

from __future__ import annotations

from collections.abc import Sequence


def kept(values: Sequence[float], most: int) -> list[int]:
    """The indexes of at most so many values: of each of equal stretches the first, the last and the extremes.

    values: finite numbers. most: 4 or more. The highest and the lowest of all are always kept.
    """
    if len(values) <= most:
        return list(range(len(values)))
    count = max(1, most // 4)
    found: set[int] = set()
    for number in range(count):
        begin, end = number * len(values) // count, (number + 1) * len(values) // count
        part = values[begin:end]
        found.update((begin, begin + part.index(min(part)), begin + part.index(max(part)), end - 1))
    return sorted(found)
