"""A comparison as text: aligned, as CSV, or on a terminal as a table in colour."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .. import tables
from ..errors import printable
from .summary import Comparison, Row, Value


def shown(value: Value) -> str:
    """A cell for people: four digits of a number, nothing where it is not known."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return printable(" ".join(str(value).split()))


def labels(rows: Sequence[Row]) -> list[str]:
    """A name for each: that of its job, with the run's id where several have the same."""
    names = [row.result.name for row in rows]
    return [
        name if names.count(name) == 1 else f"{name} {row.result.handle.rpartition('/')[2]}"
        for name, row in zip(names, rows, strict=True)
    ]


def cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """The text of each cell."""
    return [
        [label if column == "run" else shown(row.cells.get(column)) for column in columns]
        for label, row in zip(labels(rows), rows, strict=True)
    ]


def plain(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """One line a run, its cells aligned."""
    return tables.aligned([list(columns), *([cell or "-" for cell in line] for line in cells(rows, columns))])


def rich(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Print it on this terminal. Returns the names of columns that had no room."""
    return tables.show([list(columns), *cells(rows, columns)])


def as_csv(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Every column of every row, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(comparison.columns)
    writer.writerows([_full(row.cells.get(column)) for column in comparison.columns] for row in rows)
    return out.getvalue()


def _full(value: Value) -> str:
    return "" if value is None else printable(str(value))
