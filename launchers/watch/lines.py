"""The lines of a run's log: of which rank and node each is, and those of one alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..audit import provenance
from ..backends import logfile, registry
from ..backends.base import Wanted
from ..errors import UsageError
from ..runs.records import Run

#: What a line of a pod begins with; its name ends as the operators name pods: the master is node 0.
_POD = re.compile(r"(?P<pod>\S+-(?:master-0|worker-(?P<worker>\d+)|node-0-(?P<node>\d+)-\w+)): ")


def selector(run: Run, rank: int | None, node: int | None) -> Wanted:
    """Whether a line of the run's log is of this rank and this node (None: any).

    Raises UsageError if its lines are not marked by rank.
    """
    shape = _shape(run)
    if shape.processes == 1 and rank == 0:
        rank = None  # a single process: its lines have no prefix, and all lines are its own
    if rank is not None and shape.launcher == "deepspeed" and not shape.tasks_per_node:
        raise UsageError("--rank: deepspeed's launcher does not mark its lines by rank\n    remedy: --node N")
    return logfile.selector(rank, node, shape.tasks_per_node)


def as_data(run: Run) -> Callable[[str], dict[str, Any]]:
    """A line of the run's log with the run's handle, and its rank, node and pod, each None where that is not known."""
    shape, in_pods = _shape(run), not registry.of(run.scheme).shares_files

    def data(line: str) -> dict[str, Any]:
        text = line.rstrip("\n")
        pod = _POD.match(text) if in_pods else None
        if pod:
            node = int(pod["node"] or 0) if pod["worker"] is None else int(pod["worker"]) + 1
            rank = logfile.marks(text[pod.end() :], None)[0]
            return {"handle": run.handle, "line": text, "rank": rank, "node": node, "pod": pod["pod"]}
        of_rank, of_node = logfile.marks(text, shape.tasks_per_node)
        if shape.is_known and shape.nodes == 1:  # what has no other place needs no mark
            of_node = 0
            of_rank = 0 if shape.processes == 1 else of_rank
        return {"handle": run.handle, "line": text, "rank": of_rank, "node": of_node, "pod": None}

    return data


class _Shape(NamedTuple):
    """tasks_per_node: if each srun task is one rank; None: a task is a node, or there are no tasks."""

    is_known: bool
    nodes: int
    processes: int
    launcher: str
    tasks_per_node: int | None


def _shape(run: Run) -> _Shape:
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    nodes, per_node = made_from.get("nnodes", 1), made_from.get("nproc_per_node", 1)
    launcher = made_from.get("launcher", "torchrun")
    tasks = nodes if launcher == "deepspeed" else nodes * per_node
    ranks_are_tasks = registry.of(run.scheme).labels_tasks and launcher != "torchrun" and tasks == nodes * per_node
    return _Shape(bool(made_from), nodes, nodes * per_node, launcher, per_node if ranks_are_tasks else None)
