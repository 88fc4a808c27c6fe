"""A run in one row: its state, what differs in its job, final and best metrics, speed, memory, goodput."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignlaunch.train import best as trained

from ..errors import UsageError
from ..retry import history
from . import differences
from .gather import Result
from .records import Curve, Point

#: What a trainer logs about its speed, which has columns of its own, and what says nothing when a run has ended.
SPEEDS = {"tokens_per_second": "tokens/s", "samples_per_second": "samples/s", "mfu": "MFU"}
MEMORY = "memory_peak_gib"
BEST = ".best"
#: More differences than these are of jobs that have little in common: their results come first.
_MOST_FIRST = 6
Value = str | int | float | None


@dataclass
class Row:
    """cells: value by column; None: not known. A metric's best value has its name and BEST."""

    result: Result
    cells: dict[str, Value] = field(default_factory=dict)


@dataclass
class Comparison:
    """columns: all of them, in order. shown: those that a person wants to see in a table."""

    rows: list[Row]
    columns: list[str]
    shown: list[str]
    different: dict[str, list[str]]
    same: dict[str, str]


def direction(name: str) -> int:
    """-1 if a metric should be low, 1 if it should be high, 0 if nobody can say by its name."""
    return trained.direction(name.removesuffix(BEST))


def best(name: str, curve: Curve) -> Point | None:
    """The best value of a metric, and when it was; None if nobody can say."""
    return {-1: curve.low, 1: curve.high, 0: None}[direction(name)]


def compare(results: Sequence[Result]) -> Comparison:
    """One row for each, in their order."""
    different, same = differences.by_key(results)
    rows = [
        Row(result, {"run": result.name, "handle": result.handle, "state": result.state or None}) for result in results
    ]
    for key, values in different.items():
        for row, value in zip(rows, values, strict=True):
            row.cells[key] = value or None
    for row in rows:
        row.cells |= _measured(row.result)
    names = _metrics(results)
    metrics = [column for name in names for column in (name, *([name + BEST] if direction(name) else []))]
    ends = [*SPEEDS.values(), "memory GiB", "goodput %"]
    begin = ["run", "handle", "state", *different, "step", "steps"]
    first, last = (different, {}) if len(different) <= _MOST_FIRST else ({}, different)
    shown = ["run", "state", *first, "step", *_shown(names), *ends, *last]
    return Comparison(
        rows,
        [*begin, *metrics, *ends],
        [column for column in shown if column == "run" or any(row.cells.get(column) is not None for row in rows)],
        different,
        same,
    )


def ordered(comparison: Comparison, column: str) -> list[Row]:
    """The rows by a column, the best or the lowest first, those without a value last. Raises UsageError."""
    if column not in comparison.columns:
        raise UsageError(f"--sort {column}: no such column\n    remedy: one of {', '.join(comparison.columns)}")
    high = direction(column) > 0 or column in (*SPEEDS.values(), "goodput %")
    return sorted(comparison.rows, key=_key(column, -1 if high else 1))


def _key(column: str, sign: int) -> Callable[[Row], tuple[int, float, str]]:
    def key(row: Row) -> tuple[int, float, str]:
        value = row.cells.get(column)
        if value is None:
            return 3, 0.0, ""
        try:
            number = float(value)
        except ValueError:
            return 1, 0.0, str(value)
        return (2, 0.0, "") if math.isnan(number) else (0, sign * number, "")

    return key


def _measured(result: Result) -> dict[str, Value]:
    curves = result.curves.of
    found: dict[str, Value] = {}
    if curves:
        found |= {"step": result.curves.step, "steps": result.curves.max_steps}
    for name, curve in curves.items():
        if name in SPEEDS:
            found[SPEEDS[name]] = curve.middle
        elif name == MEMORY:
            found["memory GiB"] = curve.high.value if curve.high else None
        else:
            found[name] = curve.last.value
            if point := best(name, curve):
                found[name + BEST] = point.value
    if result.goodput:
        found["goodput %"] = round(100 * result.goodput.goodput, 1)
    return found


def _metrics(results: Sequence[Result]) -> list[str]:
    names = dict.fromkeys(name for result in results for name in result.curves.of)
    return [name for name in names if name not in (*SPEEDS, MEMORY)]


def _shown(names: Sequence[str]) -> list[str]:
    """The loss, and what an evaluation found; without an evaluation the same of training."""
    directed = [name for name in names if direction(name) and not name.endswith("chosen") and name != "train_loss"]
    evaluated = [name for name in directed if name.startswith("eval_")]
    return [
        *(["loss"] if "loss" in names else []),
        *(column for name in evaluated for column in (name, name + BEST)),
        *([] if evaluated else [name for name in directed if name != "loss"]),
    ]


def as_json(row: Row, comparison: Comparison) -> dict[str, Any]:
    """What is known of a run, for programs. Numbers that are none are null, and said in `notes`."""
    result = row.result
    metrics = {}
    for name in _metrics([result]):
        curve = result.curves.of[name]
        metrics[name] = {"count": curve.count, "last": _plain(curve.last), "best": _plain(best(name, curve))}
    return {
        "name": result.name,
        "handle": result.handle,
        "state": result.state,
        "folder": str(result.folder) if result.folder else None,
        "job": {key: row.cells[key] for key in comparison.different},
        "step": row.cells.get("step"),
        "max_steps": row.cells.get("steps"),
        "metrics": metrics,
        **{name: row.cells.get(column) for name, column in SPEEDS.items()},
        MEMORY: row.cells.get("memory GiB"),
        "goodput": history.goodput_as_json(result.goodput),
        "notes": result.notes,
    }


def _plain(point: Point | None) -> dict[str, Any] | None:
    if point is None:
        return None
    return {"step": point.step, "value": point.value if math.isfinite(point.value) else None}
