"""A comparison as text: aligned, as CSV, or on a terminal as a table in colour."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ..errors import printable
from .summary import Comparison, Row, Value

_COLOURS = {"COMPLETED": "green", "RUNNING": "cyan", "FAILED": "red", "CANCELLED": "yellow", "TIMEOUT": "yellow"}


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
    lines = [list(columns), *cells(rows, columns)]
    lines = [[cell or "-" for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def rich(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Print it on this terminal. NO_COLOR is honoured.

    A table that is too wide is turned, a column for each run; where that is too wide, too, the last columns are left
    out. Returns their names.
    """
    from rich.console import Console

    console = Console()
    lines = [list(columns), *cells(rows, columns)]
    turned = [list(line) for line in zip(*lines, strict=True)]
    if _width(lines) > console.width >= _width(turned):
        console.print(_drawn(turned))
        return []
    count = len(columns)
    while count > 1 and _width([line[:count] for line in lines]) > console.width:
        count -= 1
    console.print(_drawn([line[:count] for line in lines]))
    return list(columns[count:])


def _width(lines: Sequence[Sequence[str]]) -> int:
    """Of the table that is drawn: each cell with a space on both sides and a line."""
    return 1 + sum(max(map(len, column)) + 3 for column in zip(*lines, strict=True))


def _drawn(lines: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name in lines[0]:
        table.add_column(Text(name), overflow="fold")
    for line in lines[1:]:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in line))
    return table


def as_csv(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Every column of every row, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(comparison.columns)
    writer.writerows([_full(row.cells.get(column)) for column in comparison.columns] for row in rows)
    return out.getvalue()


def _full(value: Value) -> str:
    return "" if value is None else printable(str(value))
