"""The same optimizer step in other ways: with the largest micro-batch that fits, by the strategy that moves least."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from . import micro_batches, strategies
from .memory import Setup
from .strategies import Limits

if TYPE_CHECKING:
    from ..job.job import Job

#: Share of a GPU that stays free. What runs out of memory on the cluster costs more than a smaller micro-batch, and
#: docs/plan.md shows how far the plan is from what torch's tracker counts.
SPARE = 0.1
#: Tokens in a forward pass below which a GPU may starve: no speed in `speed.py` was measured with fewer.
ENOUGH = 4096


def open_to(job: Job, setup: Setup) -> list[Setup]:
    """The job's setup by every strategy that goes with its other keys; a DeepSpeed JSON of its own is kept."""
    if isinstance(job.spec.zero, str):
        return [setup]
    return [
        one
        for one in strategies.shardings(setup)
        if not (one.zero and job.elastic) and not (one.zero == 0 and job.spec.launcher == "deepspeed")
    ]


def best(setup: Setup, candidates: Iterable[Setup], limits: Limits) -> list[Setup]:
    """Each candidate with its largest micro-batch that leaves `SPARE` free; those that have one, the best first.

    Best: without offload, then with `ENOUGH` tokens in a pass, then what moves least in a step, then with the largest
    micro-batch, then the setup's own strategy, then what shards least. A step has as many examples as the setup's.
    """
    limits = limits._replace(gpu=limits.gpu and (1 - SPARE) * limits.gpu)
    found: list[Setup] = []
    for other in candidates:
        sized = (
            strategies.with_samples(other, samples) for samples in micro_batches.of(setup.samples * setup.accumulation)
        )
        found += islice(filter(limits.fit, sized), 1)

    def order(one: Setup) -> tuple[float, ...]:
        offload, moved, _ = strategies.cost(one)
        other = (one.zero, one.offload) != (setup.zero, setup.offload)
        return offload, -min(one.tokens, ENOUGH), moved, -one.samples, other, one.zero

    return sorted(found, key=order)
