"""Mixing several sources in proportion to their weights. No torch here.

A weight is a share: with weights 3 and 1, three examples in four come from the first source. Without a limit, every
example is used at least once; a source too small for its share is repeated: whole passes, then a random part of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `weights` that add up to `total` (largest remainder method)."""
    exact = [Fraction(str(weight)) for weight in weights]  # 0.3 is 3/10, not the nearest float
    quotas = [total * weight / sum(exact) for weight in exact]
    given = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (given[i] - quotas[i], i))
    for i in by_remainder[: total - sum(given)]:
        given[i] += 1
    return given


def takes(counts: Sequence[int], weights: Sequence[float], limit: int | None) -> list[int]:
    """How many examples to take from each source, given how many it holds (`counts`); at most `limit` in total."""
    exact = [Fraction(str(weight)) for weight in weights]
    total = max(ceil(count * sum(exact) / weight) for count, weight in zip(counts, exact, strict=True))
    return apportion(total if limit is None else min(total, limit), weights)


def indices(counts: Sequence[int], taken: Sequence[int], seed: int) -> Any:
    """Which rows of the concatenated sources to train on: an array in random order, the same for the same seed.

    counts: rows of each source. taken: how many of them to use (`takes`).
    """
    import numpy as np

    random = np.random.RandomState(seed)  # its numbers are the same in every version of numpy
    chosen, start = [], 0
    for count, take in zip(counts, taken, strict=True):
        passes = [random.permutation(count) for _ in range(ceil(take / count))]
        chosen += [start + rows for rows in passes[:-1]]
        chosen += [start + rows[: take - count * (len(passes) - 1)] for rows in passes[-1:]]
        start += count
    return random.permutation(np.concatenate(chosen))
