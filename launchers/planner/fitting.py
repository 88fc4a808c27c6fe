"""The same optimizer step in other ways: with the largest micro-batch that fits, by the strategy that moves least."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from . import strategies
from .memory import Setup
from .strategies import Limits

#: Share of a GPU that stays free. What runs out of memory on the cluster costs more than a smaller micro-batch, and
#: docs/plan.md shows how far the plan is from what torch's tracker counts.
SPARE = 0.1


def best(candidates: Iterable[Setup], limits: Limits, micro_batches: list[int]) -> list[Setup]:
    """Each candidate with the first of `micro_batches` that fits and leaves `SPARE`; those that do, the best first.

    micro_batches: samples, the largest first. Best: without offload, then what moves least in a step, then with the
    largest micro-batch, then what shards least.
    """
    limits = limits._replace(gpu=limits.gpu and (1 - SPARE) * limits.gpu)
    found = []
    for setup in candidates:
        sized = (strategies.with_samples(setup, samples) for samples in micro_batches)
        found += list(islice(filter(limits.fit, sized), 1))
    return sorted(found, key=_order)


def _order(setup: Setup) -> tuple[int, float, int, int]:
    offload, moved, _ = strategies.cost(setup)
    return offload, moved, -setup.samples, setup.zero
