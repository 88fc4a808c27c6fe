"""The curves in a metrics.jsonl: every line is read, what is kept of a curve is thinned.

A file of 100,000 lines is usual, and so are 200 of them, so lines are decoded many at a time into a struct of the names
met so far; where a part of the file does not fit it (a new name, NaN, a line that is no record), line by line.
"""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, repeat
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypeGuard

import msgspec
from msgspec import Meta

from ..errors import printable
from ..watch import metrics
from . import thinning

#: What a curve keeps for drawing.
MOST_POINTS = 2000
#: Bytes decoded at once: what fits into a processor's cache; first a few, which tell the names.
_FIRST, _CHUNK = 1 << 13, 1 << 16
#: A longer line is no record.
_LONGEST_LINE = 1 << 22
#: Names of metrics that are followed in one file; a trainer logs some dozens.
_MOST_NAMES = 500
#: The middle of a curve is that of at most so many of its records, evenly spaced.
_SAMPLED = 10_000
#: msgspec takes no name with these; lines that have one are decoded one by one.
_UNDECODED = set('"\\\t\n')
_PLACE = ("step", "max_steps", "time", "event", "epoch")
_LARGEST_STEP = 1 << 36
_Step = Annotated[int, Meta(ge=0, lt=_LARGEST_STEP)]


@dataclass(frozen=True)
class Point:
    """A value and the step after which it was logged."""

    step: int
    value: float


@dataclass(frozen=True)
class Curve:
    """One metric of a run.

    count: of its records. last: of the last record, perhaps NaN. low, high: the extremes of all finite records; None
    without one. middle: the median. steps, values: what is drawn, at most MOST_POINTS, all of them finite.
    unusable: how many records are NaN or infinite, the first of them at step `unusable_from`.
    """

    count: int
    last: Point
    low: Point | None
    high: Point | None
    middle: float | None
    steps: Sequence[int]
    values: Sequence[float]
    unusable: int = 0
    unusable_from: int = 0

    @property
    def is_thinned(self) -> bool:
        return len(self.values) + self.unusable < self.count


@dataclass
class Curves:
    """What a file of records says. step, max_steps: of its last record. no_records: lines that are none."""

    step: int = 0
    max_steps: int = 0
    of: dict[str, Curve] = field(default_factory=dict)
    no_records: int = 0
    names_left_out: bool = False


def read(path: Path) -> Curves:
    """The curves in a file of records. Of a step that was logged twice, as after a restart, the later value counts.

    Raises OSError if the file cannot be read.
    """
    columns = _Columns()
    for lines in _chunks(path):
        columns.add(lines)
    return columns.curves()


def _chunks(path: Path) -> Iterator[bytes]:
    """The file in parts of whole lines. A last line without its end, which is being written, is left out."""
    rest, size = b"", _FIRST
    with path.open("rb") as file:
        while data := file.read(size):
            size = _CHUNK
            whole, end, tail = data.rpartition(b"\n")
            if end:
                yield rest + whole + end
                rest = tail
            else:
                rest += data
                if len(rest) > _LONGEST_LINE:
                    rest = b"x"  # what follows of this line is no record
    if rest.endswith(b"}"):  # the line end is written with the line, but another program may have left it out
        yield rest


class _Columns:
    """Steps and values by name, in the order of the file."""

    def __init__(self) -> None:
        self._steps: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}
        self._names: tuple[str, ...] = ()
        self._decoder = _decoder(())
        self._come_again: set[str] = set()
        self._all_finite = True
        self._found = Curves()

    def add(self, lines: bytes) -> None:
        """Add whole lines."""
        try:
            records = self._decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._one_by_one(lines)
            return
        if not records:
            return
        steps, max_steps, _time, _event, _epoch, *columns = zip(*map(msgspec.structs.astuple, records), strict=True)
        self._found.step, self._found.max_steps = steps[-1], max_steps[-1]
        rising = not any(map(operator.ge, steps, steps[1:]))
        for name, column in zip(self._names, columns, strict=True):
            if None in column:
                there = tuple(map(operator.is_not, column, repeat(None)))
                self._extend(name, tuple(compress(steps, there)), compress(column, there), rising=rising)
            else:
                self._extend(name, steps, column, rising=rising)

    def _extend(self, name: str, steps: Sequence[int], values: Iterable[float], *, rising: bool) -> None:
        """rising: whether it is known that these steps are in order and none is twice among them."""
        own = self._steps[name]
        if steps and ((own and own[-1] >= steps[0]) or not (rising or all(map(operator.lt, steps, steps[1:])))):
            self._come_again.add(name)
        own.extend(steps)
        self._values[name].extend(values)

    def _one_by_one(self, lines: bytes) -> None:
        """The same for lines of which some are no records, or have a name that was not met before."""
        before = len(self._steps)
        for line in lines.split(b"\n"):
            found = metrics.record(line)
            step, max_steps = found.get("step"), found.get("max_steps", 0)
            if not _is_count(step):
                self._found.no_records += bool(line.strip())
                continue
            self._found.step, self._found.max_steps = step, (max_steps if _is_count(max_steps) else 0)
            for told, value in found.items():
                name = printable(told)
                if name not in _PLACE and type(value) in (int, float) and self._follows(name):
                    number = _float(value)
                    self._extend(name, (step,), (number,), rising=True)
                    self._all_finite = self._all_finite and math.isfinite(number)
        if len(self._steps) != before:
            self._names = tuple(name for name in self._steps if not _UNDECODED & set(name))
            self._decoder = _decoder(self._names)

    def _follows(self, name: str) -> bool:
        if name not in self._steps:
            if len(self._steps) == _MOST_NAMES:
                self._found.names_left_out = True
                return False
            self._steps[name], self._values[name] = [], []
        return True

    def curves(self) -> Curves:
        """All of them, in the order in which their names were met."""
        for name, steps in self._steps.items():
            found = steps, self._values[name]
            ordered = _later_wins(*found) if name in self._come_again else found
            self._found.of[name] = _curve(*ordered, all_finite=self._all_finite)
        return self._found


def _decoder(names: Sequence[str]) -> Any:
    """Of lines with these metrics and no others."""
    places = [("max_steps", _Step, 0), ("time", float, 0.0), ("event", str, ""), ("epoch", float | None, None)]
    known = [(f"metric_{i}", float | None, None) for i in range(len(names))]
    renamed = {f"metric_{i}": name for i, name in enumerate(names)}
    record = msgspec.defstruct(
        "Record", [("step", _Step), *places, *known], rename=renamed, forbid_unknown_fields=True, gc=False
    )
    return msgspec.json.Decoder(record)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _LARGEST_STEP


def _float(value: float) -> float:
    """The number as a float: a whole number that is too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _later_wins(steps: list[int], values: list[float]) -> tuple[list[int], list[float]]:
    found = dict(zip(steps, values, strict=True))
    ordered = sorted(found)
    return ordered, [found[step] for step in ordered]


def _curve(steps: list[int], values: list[float], *, all_finite: bool) -> Curve:
    count, last = len(values), Point(steps[-1], values[-1])
    unusable: list[int] = []
    if not all_finite:
        usable = list(map(math.isfinite, values))
        unusable = [step for step, is_usable in zip(steps, usable, strict=True) if not is_usable]
        steps, values = list(compress(steps, usable)), list(compress(values, usable))
    kept = thinning.kept(values, MOST_POINTS)
    drawn = array("q", [steps[i] for i in kept]), array("d", [values[i] for i in kept])
    low, high = (drawn[1].index(extreme(drawn[1])) if kept else None for extreme in (min, max))
    return Curve(
        count,
        last,
        low=None if low is None else Point(drawn[0][low], drawn[1][low]),
        high=None if high is None else Point(drawn[0][high], drawn[1][high]),
        middle=median(values[:: len(values) // _SAMPLED + 1]) if values else None,
        steps=drawn[0],
        values=drawn[1],
        unusable=len(unusable),
        unusable_from=unusable[0] if unusable else 0,
    )
