"""Work on a list of things, spread over the processes: each takes an equal share, all get every result."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def share(count: int, args: Any) -> list[int]:
    """Which of `count` things this process works on.

    All shares are of one length, the last thing standing in for what is missing: under ZeRO-3 all processes must make
    the same number of forwards.
    """
    each = -(-count // args.world_size)
    return [min(args.process_index + i * args.world_size, count - 1) for i in range(each)]


def join(found: list[Any], count: int, args: Any) -> list[Any]:
    """The results of all things in their order, from those of this process's share. A collective."""
    gathered = gather(found)
    return [gathered[i % args.world_size][i // args.world_size] for i in range(count)]


def gather(value: Any) -> list[Any]:
    """Every process's value, on every process. A collective."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
