"""Select the lines of a run's log that belong to one rank or node."""

from __future__ import annotations

from pathlib import Path

from ..audit import provenance
from ..backends import logfile, registry
from ..backends.base import Wanted
from ..errors import UsageError
from ..runs.records import Run


def selector(run: Run, rank: int | None, node: int | None) -> Wanted:
    """Whether a line of the run's log is of this rank and this node (None: any).

    Raises UsageError if its lines are not marked by rank.
    """
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    nodes, per_node = made_from.get("nnodes", 1), made_from.get("nproc_per_node", 1)
    launcher = made_from.get("launcher", "torchrun")
    if nodes * per_node == 1 and rank == 0:
        rank = None  # a single process: its lines have no prefix, and all lines are its own
    tasks = nodes if launcher == "deepspeed" else nodes * per_node
    ranks_are_tasks = registry.of(run.scheme).labels_tasks and launcher != "torchrun" and tasks == nodes * per_node
    if rank is not None and launcher == "deepspeed" and not ranks_are_tasks:
        raise UsageError("--rank: deepspeed's launcher does not mark its lines by rank\n    remedy: --node N")
    return logfile.selector(rank, node, per_node if ranks_are_tasks else None)
