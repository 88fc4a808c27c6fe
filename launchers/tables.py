"""Tables of text: aligned lines for a pipe, on a terminal a table in colour. NO_COLOR is honoured.

The first line of a table has the names of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import printable

Line = Sequence[str]
#: Of a state, in Slurm's words.
_COLOURS = {
    **dict.fromkeys(("COMPLETED",), "green"),
    **dict.fromkeys(("RUNNING", "COMPLETING"), "cyan"),
    **dict.fromkeys(("FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL"), "red"),
    **dict.fromkeys(("CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED"), "yellow"),
    "UNKNOWN": "magenta",
}


def aligned(lines: Sequence[Line]) -> str:
    """The lines as text."""
    lines = _clean(lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def show(lines: Sequence[Line], spare: Sequence[str] = ()) -> list[str]:
    """Print them on this terminal.

    A table that is too wide is turned, a column for each of its lines, of which a single one is folded; where that is
    too wide, too, columns are left out: first `spare`, in this order, then the last ones. Returns the names of these.
    """
    from rich.console import Console

    console = Console()
    lines = _clean(lines)
    turned = list(zip(*lines, strict=True))
    if _width(lines) > console.width and (len(lines) == 2 or _width(turned) <= console.width):
        console.print(drawn(turned))
        return []
    kept = fitting(lines, console.width, spare)
    console.print(drawn([[line[i] for i in kept] for line in lines]))
    return [name for i, name in enumerate(lines[0]) if i not in kept]


def fitting(lines: Sequence[Line], width: int, spare: Sequence[str] = ()) -> list[int]:
    """Which columns have room in so many characters, the first one at least; left out as in `show`."""
    names = list(lines[0])
    kept = list(range(len(names)))
    later = [names.index(name) for name in spare if name in names]
    later += [i for i in reversed(kept) if i not in later]
    for i in later[: len(names) - 1]:
        if _width([[line[k] for k in kept] for line in lines]) <= width:
            break
        kept.remove(i)
    return kept


def _width(lines: Sequence[Line]) -> int:
    """Of the table that is drawn: each cell with a space on both sides and a line."""
    return 1 + sum(max(map(len, column)) + 3 for column in zip(*lines, strict=True))


def drawn(lines: Sequence[Line], chosen: int | None = None) -> Any:
    """A table of rich. chosen: number of the line, from 1, that is shown as selected."""
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name in lines[0]:
        table.add_column(Text(name), overflow="fold")
    for number, line in enumerate(lines[1:], start=1):
        cells = (Text(cell, style=_COLOURS.get(cell, "")) for cell in line)
        table.add_row(*cells, style="reverse" if number == chosen else None)
    return table


def _clean(lines: Sequence[Line]) -> list[list[str]]:
    return [[printable(" ".join(cell.split())) for cell in line] for line in lines]
