"""Work on a list of things, spread over the processes: each takes an equal share, all get every result."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import torch.distributed as dist

#: How long a process waits for what another one does, such as tokenising a corpus or merging an adapter. A process that
#: died is the launcher's business, and the job's own time limit comes sooner; `ddp_timeout` is for training's hangs.
PATIENCE = timedelta(days=7)


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
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=_group())
    return values


@cache
def _group() -> Any:
    """All processes over gloo: on the GPU, objects would wait in a kernel of NCCL's, and for `ddp_timeout` at most."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)
