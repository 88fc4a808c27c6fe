"""How far a run is, from the records that it writes into its output folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..runs.records import Run
from . import metrics

#: Bytes at the end of metrics.jsonl that tell the last step and the present speed; of many runs no more is read.
_TAIL = 1 << 16
#: Larger numbers are no steps, and no time in seconds since 1970.
_LARGEST = 1 << 36
_LOGGED = ("loss", "tokens_per_second", "mfu")


@dataclass(frozen=True)
class Progress:
    """step, time: of the last record, in seconds since 1970. seconds_left: at the speed of the last records.

    loss, tokens_per_second, mfu: as they were logged last, so perhaps NaN. None: not known.
    """

    step: int
    max_steps: int
    seconds_left: float | None
    time: float = 0.0
    loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None

    def __str__(self) -> str:
        return f"{self.step}/{self.max_steps}"


def read(run: Run) -> Progress | None:
    """How far a run is; None if it has not begun to train, or its records cannot be seen from here."""
    path = metrics.path(run)
    found = list(_records(_tail(path))) if path else []
    if not found:
        return None
    last = found[-1]
    begin = max((i for i, record in enumerate(found) if "event" in record), default=0)
    steps, seconds = last["step"] - found[begin]["step"], last["time"] - found[begin]["time"]
    left = (last["max_steps"] - last["step"]) * seconds / steps if steps > 0 and not run.status.is_final else None
    logged = {name: _latest(name, found) for name in _LOGGED}
    return Progress(last["step"], last["max_steps"], left, last["time"], **logged)


def _latest(name: str, found: list[dict[str, Any]]) -> float | None:
    """The number that was logged last by this name."""
    values = (record.get(name) for record in reversed(found))
    return next((float(value) for value in values if _is_number(value)), None)


def _is_number(value: Any) -> bool:
    """Also one that is not finite, but no whole number that is too large for a float."""
    return type(value) is float or (type(value) is int and abs(value) < _LARGEST)


def shown(seconds: float) -> str:
    """A time span as text, without parts of a second: 1 day, 2:03:04."""
    return str(timedelta(seconds=min(round(seconds), _LARGEST)))


def _tail(path: Path) -> list[str]:
    """The last lines of a file, without one that may be cut off at its begin."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > _TAIL else lines


def _records(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Those of the lines that are records; the last one may be half written."""
    for record in map(metrics.record, lines):
        if all(_is_count(record.get(name)) for name in ("step", "max_steps", "time")):
            yield record


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _LARGEST
