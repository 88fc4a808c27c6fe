"""Where in a run a shell is wanted: of a rank, or of a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..audit import provenance
from ..backends import registry
from ..errors import UsageError
from ..runs.records import Run
from . import states, words


def command(text: str, rank: int | None, node: int | None, wanted: Sequence[str], *, terminal: bool) -> list[str]:
    """The command line that runs `wanted` (default: bash) there: on the first node if neither is given.

    text: as of `states.find`. Raises UsageError unless exactly one run of it is running, and has that rank or node.
    """
    if rank is not None and node is not None:
        raise UsageError("--rank or --node, not both: the node of a rank is known")
    run = _running(text)
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    nodes, per_node = made_from.get("nnodes"), made_from.get("nproc_per_node")
    if rank is not None:
        if not nodes or not per_node:
            raise UsageError(f"--rank: not known how many processes a node of {run.handle} has\n    remedy: --node N")
        if rank >= nodes * per_node:
            raise UsageError(f"--rank {rank}: the run has ranks 0 to {nodes * per_node - 1}")
        node = rank // per_node
    if node and nodes and node >= nodes:
        raise UsageError(f"--node {node}: the run has nodes 0 to {nodes - 1}")
    return registry.of(run.scheme).shell(run, node or 0, wanted or ["bash"], terminal=terminal)


def _running(text: str) -> Run:
    """The one run of this name that is running."""
    found = states.refresh(states.find(text))
    running = [run for run in found if run.status.state == "RUNNING"]
    if not running:
        raise UsageError(f"{words.describe(found[-1])}\n    a shell needs a run that is running")
    if len(running) > 1:
        named = ", ".join(f"{run.handle} ({run.name})" for run in running)
        raise UsageError(f"{text}: {len(running)} runs of it are running\n    remedy: name one: {named}")
    return running[0]
