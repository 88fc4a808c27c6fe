"""Which records to use where a job limits their number: a random part of every source, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..processes.beats import beats
from . import mixing
from .formats.turns import FormatError, Record
from .sources import Part

#: Positions of records in a source, in their order.
Positions = Sequence[int]
#: Records that are looked at between two signs of life.
_RECORDS_A_BEAT = 1000


def shares(limit: int, sizes: Sequence[int], weights: Sequence[float] | None) -> list[int]:
    """How many records to take from sources of these sizes: by weight, else so that each record has the same chance.

    At least one from each source that has any, where `limit` allows it. With weights, a source that is too small for
    its share gives all it has.
    """
    if weights is not None:
        return [min(size, max(1, n)) for size, n in zip(sizes, mixing.apportion(limit, weights), strict=True)]
    if sum(sizes) <= limit:
        return list(sizes)
    taken = mixing.apportion(limit, sizes)
    for i, size in enumerate(sizes):
        if size and not taken[i] and max(taken) > 1:
            taken[taken.index(max(taken))] -= 1
            taken[i] = 1
    return taken


def positions(parts: list[Part], belongs: Callable[[Record], bool] | None) -> Positions:
    """Positions of the usable records. belongs: whether a readable record is usable; None: all records are."""
    if belongs is None:
        return range(sum(part.count() for part in parts))
    items = (decode for part in parts for _, decode in part.unread())
    found: list[int] = []
    for at, decode in enumerate(items):
        if not at % _RECORDS_A_BEAT:
            beats.alive()
        record = decode()
        if not isinstance(record, FormatError) and belongs(record):
            found.append(at)
    return found


def drawn(usable: Positions, count: int, seed: int) -> set[int]:
    """`count` of the positions, drawn at random."""
    import numpy as np

    random: Any = np.random.RandomState(seed)  # its numbers are the same in every version of numpy
    return {usable[i] for i in random.permutation(len(usable))[:count]}
