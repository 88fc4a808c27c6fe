"""What `timeline.jsonl` says: when each attempt of a run began, its phases, and when it ended. No torch here.

`recording` writes it. A line for each change of phase, none for a step: after a kill the last record of metrics.jsonl,
which the next attempt copies into its first line, tells how far the attempt before had come.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import trained_folder
from ..processes.beats import START, TRAINING

#: What torchrun calls a run that nobody has named.
UNNAMED = "none"
#: What is said of an attempt without an outcome, such as one that was killed.
CUT_OFF = "cut off"
#: Bytes at the end of metrics.jsonl in which the last record is looked for.
_TAIL = 1 << 14


@dataclass(frozen=True)
class Mark:
    """At `time` (seconds since 1970), after this step, a phase began."""

    time: float
    phase: str
    step: int


@dataclass(frozen=True)
class Attempt:
    """One start of the processes.

    queued: when the scheduler was asked for it; None: not known. began: when its script or pod started; restarts in
    place have that in common. nodes: as Slurm writes them, or the host of rank 0. marks: the first one is the start.
    outcome: "completed", "stopped" (with a checkpoint, before its end), "failed"; "" if its process did not live to say
    it. ended: that end, or its last sign of life.
    """

    queued: float | None
    began: float
    nodes: str
    marks: tuple[Mark, ...]
    outcome: str
    ended: Mark

    @property
    def trains_from(self) -> int | None:
        """The step that its training began after; None if it did not come so far."""
        return next((mark.step for mark in self.marks if mark.phase == TRAINING), None)


def read(output_dir: Path, run: str) -> list[Attempt]:
    """The attempts of a run in its output folder, oldest first, without lines that are no records. run: see `name`."""
    found: list[Attempt] = []
    ours = False
    for line in _records(output_dir / trained_folder.TIMELINE):
        try:
            if "run" in line:
                ours = False  # what follows a broken line is no attempt's
                if line["run"] == run:
                    begun = _begun(line)
                    if found:
                        found[-1] = _seen_until(found[-1], line["last"])
                    found.append(begun)
                    ours = True
            elif ours:
                found[-1] = _went_on(found[-1], line)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return [*found[:-1], _seen_until(found[-1], last_record(output_dir))] if found else []


def span(output_dir: Path, run: str) -> tuple[float, float] | None:
    """When the first attempt of a run began, and when its last phase did or it ended; None: not known.

    In seconds since 1970. Of many runs, so no more is decoded than that.
    """
    began, last = None, b""
    ours = False
    try:
        lines = (output_dir / trained_folder.TIMELINE).read_bytes().splitlines()
        for line in lines:
            if b'"run"' in line:
                found = json.loads(line)
                ours = found["run"] == run
                began = _number(found["began"]) if ours and began is None else began
            last = line if ours else last
        return None if began is None else (began, _number(json.loads(last)["time"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def name(run_id: str, began: float) -> str:
    """How a timeline names a run: as its launcher did; one that none has named is this start of a script alone."""
    return run_id if run_id not in ("", UNNAMED) else f"begun at {began:.3f}"


def last_record(output_dir: Path) -> dict[str, Any] | None:
    """`time`, `step` and `max_steps` of the last record in metrics.jsonl, whichever run's; None without one."""
    path = output_dir / trained_folder.METRICS
    last = None
    for one in _records(path, _TAIL):
        if _is_number(one.get("time")) and type(one.get("step")) is type(one.get("max_steps")) is int:
            last = {name: one[name] for name in ("time", "step", "max_steps")}
    return last


def _begun(line: dict[str, Any]) -> Attempt:
    mark = Mark(_number(line["time"]), START, 0)
    queued = None if line["queued"] is None else _number(line["queued"])
    return Attempt(queued, _number(line["began"]), str(line["nodes"]), (mark,), "", mark)


def _went_on(attempt: Attempt, line: dict[str, Any]) -> Attempt:
    mark = Mark(_number(line["time"]), str(line["phase"]), int(line["step"]))
    if outcome := line.get("outcome"):
        return replace(attempt, outcome=str(outcome), ended=mark)
    return replace(attempt, marks=(*attempt.marks, mark), ended=mark)


def _seen_until(attempt: Attempt, last: dict[str, Any] | None) -> Attempt:
    """The attempt, which lived at least until this record of its metrics."""
    if attempt.outcome or attempt.trains_from is None or last is None or not _number(last["time"]) > attempt.ended.time:
        return attempt
    return replace(attempt, ended=Mark(_number(last["time"]), attempt.ended.phase, int(last["step"])))


def _records(path: Path, at_end: int | None = None) -> Iterator[dict[str, Any]]:
    """The JSON objects in a file, one a line; at_end: only those in so many bytes at its end."""
    try:
        with path.open("rb") as file:
            if at_end is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - at_end))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12  # not NaN, no infinity, and a time


def _number(value: Any) -> float:
    if not _is_number(value):
        raise ValueError
    return float(value)
