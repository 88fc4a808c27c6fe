"""What `alignlaunch top` shows: runs in the order of a column, one of them selected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from .. import tables
from ..errors import printable
from ..results.watched import Seen, Watched
from ..watch import progress
from . import summary

KEYS = "j/k or arrows: select   s/S: sort by the next, previous column   r: reverse   l: log   c: cancel   q: quit"
#: What a narrow terminal can do without, in this order.
_SPARE = ("GPUS", "ELAPSED", "MFU", "ATTEMPT", "NODES", "TOKENS/S", "REASON")
#: Lines of the screen that are no rows.
_OTHER_LINES = 8
_LONGEST = 40
_Value = str | float | None


def _left(one: Watched) -> float | None:
    return one.now.reached.seconds_left if one.now.reached else None


def _logged(name: str) -> Callable[[Watched], _Value]:
    return lambda one: getattr(one.now.reached, name) if one.now.reached else None


#: Each column with what it is sorted by.
_COLUMNS: dict[str, Callable[[Watched], _Value]] = {
    "NAME": lambda one: one.run.name,
    "STATE": lambda one: one.run.status.state,
    "ATTEMPT": lambda one: one.attempt or None,
    "STEP": _logged("step"),
    "LOSS": _logged("loss"),
    "TOKENS/S": _logged("tokens_per_second"),
    "MFU": _logged("mfu"),
    "ETA": _left,
    "ELAPSED": lambda one: one.now.elapsed,
    "GPUS": lambda one: one.now.gpus,
    "NODES": lambda one: one.run.status.nodes or None,
    "REASON": lambda one: one.run.status.reason or None,
}
_ORDERS = ("", *_COLUMNS)  # "": the newest first


class View:
    """order: the column that it is sorted by. message: what has just happened, or a question."""

    def __init__(self) -> None:
        self.order, self.is_reversed = "", False
        self.message = ""
        self._rows: list[Watched] = []
        self._seen = Seen()
        self._chosen: str | None = None

    def take(self, seen: Seen) -> None:
        """Show this from now on. The selected run stays selected wherever it is now."""
        self._seen = seen
        self._rows = self._ordered(seen.rows)
        if self._rows and self.chosen is None:
            self._chosen = self._rows[0].run.handle

    @property
    def chosen(self) -> Watched | None:
        """The selected run."""
        return next((one for one in self._rows if one.run.handle == self._chosen), None)

    def select(self, by: int) -> None:
        """The row so many lines further down."""
        if self._rows:
            at = self._rows.index(self.chosen) if self.chosen else 0
            self._chosen = self._rows[min(max(0, at + by), len(self._rows) - 1)].run.handle

    def sort(self, by: int) -> None:
        """By the column so many further to the right."""
        self.order = _ORDERS[(_ORDERS.index(self.order) + by) % len(_ORDERS)]
        self.is_reversed = False
        self._rows = self._ordered(self._seen.rows)

    def reverse(self) -> None:
        self.is_reversed = not self.is_reversed
        self._rows = self._ordered(self._seen.rows)

    def _ordered(self, rows: list[Watched]) -> list[Watched]:
        """Those without a value come last in either direction."""
        if not self.order:
            return rows[::-1] if self.is_reversed else list(rows)
        value = _COLUMNS[self.order]
        usable = [one for one in rows if (found := value(one)) is not None and str(found) != "nan"]
        kept = {one.run.handle for one in usable}
        usable.sort(key=value, reverse=self.is_reversed)  # type: ignore[arg-type] # of one column, of one type
        return [*usable, *(one for one in rows if one.run.handle not in kept)]

    def picture(self, width: int, height: int) -> Any:
        """The whole screen, for rich."""
        from rich.console import Group
        from rich.text import Text

        def line(text: str, style: str = "") -> Text:
            return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")

        troubles = [line(f"last known states: {text}", "red") for text in self._troubles()]
        shown = max(1, height - _OTHER_LINES - len(troubles))
        at = self._rows.index(self.chosen) if self.chosen else 0
        first = max(0, min(at - shown // 2, len(self._rows) - shown))
        lines = [[self._header(name) for name in _COLUMNS], *map(_cells, self._rows[first : first + shown])]
        kept = tables.fitting(lines, width, _SPARE)
        table = tables.drawn([[cells[i] for i in kept] for cells in lines], at - first + 1)
        return Group(
            line(self._title()), *troubles, table, line(self._about(), "bold"), line(self.message or KEYS, _of(self))
        )

    def _troubles(self) -> list[str]:
        return self._seen.troubles[:3]

    def _header(self, name: str) -> str:
        return name if name != self.order else f"{name} {'▼' if self.is_reversed else '▲'}"

    def _title(self) -> str:
        if self._seen.time is None:
            return "alignlaunch top: asking ..."
        found = [one.run.status.state for one in self._rows]
        counts = ", ".join(f"{found.count(state)} {state}" for state in dict.fromkeys(sorted(found)))
        return f"alignlaunch top  {datetime.fromtimestamp(self._seen.time):%H:%M:%S}  {counts or 'no runs'}"

    def _about(self) -> str:
        """What of the selected run has no column."""
        if self.chosen is None:
            return "runs that have not ended, and those that ended in the last hour"
        run = self.chosen.run
        reason = f"  ({run.status.reason})" if run.status.reason else ""
        return f"{run.handle}  {run.output_dir}{reason}"


def _of(view: View) -> str:
    return "yellow" if view.message else "dim"


def _cells(one: Watched) -> list[str]:
    reached, status = one.now.reached, one.run.status
    left = _left(one)
    cells = [
        one.run.name,
        status.state,
        str(one.attempt or ""),
        str(reached or ""),
        "" if reached is None or reached.loss is None else f"{reached.loss:.4g}",
        "" if reached is None or reached.tokens_per_second is None else f"{reached.tokens_per_second:.0f}",
        "" if reached is None or reached.mfu is None else f"{reached.mfu:.1%}",
        "" if left is None else progress.shown(left),
        summary.elapsed(one.now),
        summary.gpus(one.now),
        status.nodes,
        status.reason,
    ]
    cells = [printable(" ".join(cell.split())) for cell in cells]
    return [cell if len(cell) <= _LONGEST else f"{cell[: _LONGEST - 1]}…" for cell in cells]
