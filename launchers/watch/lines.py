"""Which lines of a run's log belong to a rank or a node."""

from __future__ import annotations

from pathlib import Path

from ..audit import provenance
from ..backends import logfile, registry
from ..backends.base import Wanted
from ..errors import UsageError
from ..runs.records import Run


def selector(run: Run, rank: int | None, node: int | None) -> Wanted:
    """Which lines of the run's log belong to a rank or a node."""
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    nodes, per_node = int(made_from.get("nnodes", 1)), int(made_from.get("nproc_per_node", 1))
    launcher = made_from.get("launcher", "torchrun")
    if nodes * per_node == 1 and rank == 0:
        rank = None  # the one process marks nothing: every line is its own
    tasks = nodes if launcher == "deepspeed" else nodes * per_node
    ranks_are_tasks = registry.of(run.scheme).labels_tasks and launcher != "torchrun" and tasks == nodes * per_node
    if rank is not None and launcher == "deepspeed" and not ranks_are_tasks:
        raise UsageError("--rank: deepspeed's launcher does not mark its lines by rank\n    remedy: --node N")
    return logfile.selector(rank, node, per_node if ranks_are_tasks else None)
