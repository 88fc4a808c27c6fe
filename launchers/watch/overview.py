"""A run in a few figures, from its own files: how far it is, since when, on how many processes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignlaunch.train.outputs import timeline

from ..audit import provenance
from ..backends import registry
from ..runs import runfolder
from ..runs.records import Run
from . import progress
from .progress import Progress


@dataclass(frozen=True)
class Overview:
    """reached: None if it has not begun to train, or its records are not seen from here.

    nnodes, nproc_per_node: as submitted; None: not known. elapsed: seconds until its end, or now; of a run whose end is
    not known None. since: what `elapsed` begins with, "began" (its script or pod) or "submitted". ended: in seconds
    since 1970: when its exit code was written, or its last sign of life; None: not known, or it has not ended.
    """

    run: Run
    reached: Progress | None
    nnodes: int | None
    nproc_per_node: int | None
    elapsed: float | None
    since: str
    ended: float | None

    @property
    def gpus(self) -> int | None:
        """Processes of all nodes: each has a GPU of its own."""
        return self.nnodes * self.nproc_per_node if self.nnodes and self.nproc_per_node else None


def of(run: Run, now: float) -> Overview:
    """The figures of a run. now: in seconds since 1970."""
    reached = progress.read(run)
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    began, last = _span(run)
    signs = (runfolder.exit_time(Path(run.run_dir)) if run.run_dir else None, last, reached.time if reached else None)
    ended = max((sign for sign in signs if sign is not None), default=None) if run.status.is_final else None
    submitted = run.submitted.timestamp() if run.submitted else None
    begin = submitted if began is None else began
    end = ended if run.status.is_final else now
    return Overview(
        run,
        reached,
        made_from.get("nnodes"),
        made_from.get("nproc_per_node"),
        None if begin is None or end is None else max(0.0, end - begin),
        "submitted" if began is None else "began",
        ended,
    )


def as_json(one: Overview) -> dict[str, Any]:
    """The same for programs. Numbers that are none are null."""
    reached = asdict(one.reached) if one.reached else None
    return one.run.as_json() | {
        "progress": {name: _number(value) for name, value in reached.items()} if reached else None,
        "elapsed": None if one.elapsed is None else {"seconds": round(one.elapsed, 3), "since": one.since},
        "nnodes": one.nnodes,
        "nproc_per_node": one.nproc_per_node,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _span(run: Run) -> tuple[float | None, float | None]:
    """When its first attempt began and its last phase did."""
    if not run.output_dir or not run.run_dir or not registry.of(run.scheme).shares_files:
        return None, None
    return timeline.span(Path(run.output_dir), run.run_dir) or (None, None)
