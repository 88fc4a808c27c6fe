"""What node 0 prints of a meeting: a table of what differs, a line of what does not, a line of link speeds."""

from __future__ import annotations

from statistics import median

from . import compare, links
from .messages import Verdict

#: Facts to print even if they are the same everywhere, because readers of the log look for them.
_SHOWN = ("GPUs", "GPU type", "driver", "torch", "CUDA of torch", "NCCL", "transformers", "deepspeed")


def table(verdict: Verdict) -> list[str]:
    """The lines to print. What differs is listed value by value, each with its nodes."""
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
