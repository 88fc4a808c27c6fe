"""Spreading a list of work items over the ranks: each rank takes an equal share, and all get every result."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import torch.distributed as dist

#: How long a rank waits for another one's work, such as tokenising a corpus or merging an adapter: practically without
#: limit. If a rank dies, the launcher ends the others; `ddp_timeout` is for collectives of training that hang.
PATIENCE = timedelta(days=7)


def share(count: int, args: Any) -> list[int]:
    """The indices of the items, of `count`, that this rank works on.

    All shares have the same length, because under ZeRO-3 all ranks must make the same number of forwards: short ones
    are padded with the last item.
    """
    each = -(-count // args.world_size)
    return [min(args.process_index + i * args.world_size, count - 1) for i in range(each)]


def join(found: list[Any], count: int, args: Any) -> list[Any]:
    """The results of all items in order, from `found`, those of this rank's `share`. A collective."""
    gathered = gather(found)
    return [gathered[i % args.world_size][i // args.world_size] for i in range(count)]


def gather(value: Any) -> list[Any]:
    """The values of all ranks, on every rank. A collective."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=_group())
    return values


@cache
def _group() -> Any:
    """All ranks over gloo: NCCL would occupy the GPU while a rank waits, and for `ddp_timeout` at most."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)
