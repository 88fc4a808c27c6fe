"""The first collective of a run, before the model loads: do all ranks answer, and how fast is the network?"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from ..processes import spread
from ..processes.rendezvous import Rendezvous
from .findings import RETRY

_BYTES = 16 * 2**20
#: A node is slow below this share of the median node's bandwidth.
_SLOW = 0.25


def check(place: Rendezvous, deadline: float) -> str:
    """All-reduce within each node, then over all ranks. Returns a line with the bandwidths.

    Call it right after the process group was made, when no rank is late. deadline: seconds for each of the two
    all-reduces, after which the process exits; a group's first collective opens all its connections.
    """
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    own, within = None, 0.0
    if 1 < place.local_world_size < place.world_size and place.world_size % place.local_world_size == 0:
        with _within(deadline, "the all-reduce within this node"):
            own, _ = dist.new_subgroups(place.local_world_size)  # type: ignore[no-untyped-call]
            within = _bandwidth(device, own)
    with _within(deadline, f"the all-reduce over all {place.world_size} processes"):
        over_all = _bandwidth(device, None)
        seen = spread.gather((platform.node(), within))
    if own is not None:
        dist.destroy_process_group(own)
    return _words(seen, place, over_all)


def _bandwidth(device: torch.device, group: Any) -> float:
    """Bus bandwidth in GB/s: 2 (n - 1) / n times the bytes per second, as nccl-tests defines it for an all-reduce."""
    count = dist.get_world_size(group)
    data = torch.zeros(_BYTES // 4, device=device)
    for _ in range(2):  # the first one opens the connections
        start = time.perf_counter()
        dist.all_reduce(data, group=group)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return 2 * (count - 1) / count * _BYTES / seconds / 1e9


def _words(seen: list[tuple[str, float]], place: Rendezvous, over_all: float) -> str:
    """The bandwidths in one line, which names nodes that are far slower than the others."""
    firsts = seen[:: place.local_world_size]
    speeds = {node: within for node, (_, within) in enumerate(firsts) if within}
    line = f"all-reduce: {over_all:.2f} GB/s over all"
    if not speeds:
        return line
    usual = median(speeds.values())
    slow = [f"{node} ({firsts[node][0]}) {within:.2f}" for node, within in speeds.items() if within < _SLOW * usual]
    warning = f"; warning: slow within node {', '.join(slow)}" if slow else ""
    return f"{line}, {usual:.2f} within a node{warning}"


@contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """Exit with an error after `seconds`: a hanging collective cannot be interrupted, and is silent for 30 minutes.

    what: its name in the message.
    """

    def end() -> None:
        rank = os.environ.get("RANK")
        print(  # noqa: T201 - the process's last words
            f"alignlaunch.train: error: rank {rank} on {platform.node()}: {what} did not end in {seconds:.0f} s.\n"
            "    remedy: `NCCL_DEBUG: INFO` under `env:` shows the connection that it waits for; try another "
            "network_interface, or leave the node out",
            file=sys.stderr,
            flush=True,
        )
        os._exit(RETRY)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
