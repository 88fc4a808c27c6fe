"""What node 0 shows of a meeting: one table of what differs, one line of what does not."""

from __future__ import annotations

from statistics import median

from . import compare, links
from .messages import Verdict

#: Of what is the same everywhere, that which a reader of the log will look for.
_SHOWN = ("GPUs", "GPU type", "driver", "torch", "CUDA of torch", "NCCL", "transformers", "deepspeed")


def table(verdict: Verdict) -> list[str]:
    """Lines: what differs, value by value with its nodes; what is the same; the links."""
    nodes = verdict.nodes
    differing = compare.differences(nodes)
    width = max((len(one.what) for one in differing), default=0)
    lines = [
        f"  {one.what:<{width}}  " + " | ".join(f"{value}: {compare.name(nodes, ranks)}" for value, ranks in one.groups)
        for one in differing
    ]
    names = {one.what for one in differing}
    first = nodes[min(nodes)].same
    same = [f"{what} {first[what]}" for what in _SHOWN if what not in names and first.get(what, "none") != "none"]
    lines.append(f"  same on all {len(nodes)}: {', '.join(same)}")
    speeds = sorted(links.rate(one.seconds) for one in verdict.links if one.seconds)
    if speeds:
        lines.append(f"  links: {len(speeds)}, {speeds[0]:.2f} to {speeds[-1]:.2f} GB/s, median {median(speeds):.2f}")
    return lines
