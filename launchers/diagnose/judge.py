"""From what the lines told to a verdict. The rule stands at the head of `patterns.py`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from . import failures
from .failures import Failure
from .lines import Line, Source
from .scan import Hit, Scan, Traceback

_LAST_FRAMES = 12
_LONGEST = 300


@dataclass
class Verdict:
    """What is known of a run's failure. name: of the pattern, or `unknown`, `completed`, `going`, `no-failure`."""

    name: str
    cause: str
    remedy: str = ""
    first: str = ""  # who failed first, and how
    evidence: list[str] = field(default_factory=list)  # "file:line: what it says"
    traceback: list[str] = field(default_factory=list)  # its last lines
    followed: list[str] = field(default_factory=list)  # who ended after it, and how
    notes: list[str] = field(default_factory=list)


def verdict(scan: Scan) -> Verdict | None:
    """Why the run failed; None where nothing in the lines says that it did."""
    first = failures.first(scan.failures)
    best = min(scan.hits.values(), key=lambda hit: _order(hit, first), default=None)
    traceback = _traceback(scan, first, best)
    if best is None and first is None and traceback is None:
        return None
    who = _who(first, best, traceback)
    found = _unknown(scan, first, traceback) if best is None else _known(best)
    found.first = who + (f" on {first.where}" if first and first.where and first.rank is not None else "")
    if first:
        found.first += f": {first.shown}" + (f", {first.time}" if first.time else "")
    if traceback:
        found.traceback = traceback
    found.followed = _followed(scan, first, best)
    return found


def _order(hit: Hit, first: Failure | None) -> tuple[bool, bool, bool, int, int]:
    elsewhere = first is not None and first.rank is not None and hit.line.source.rank != first.rank
    return (
        hit.pattern.symptom,
        hit.line.source.where == "scheduler",
        elsewhere,
        hit.order,
        hit.pattern.index,
    )


def _known(hit: Hit) -> Verdict:
    pattern = hit.pattern
    cause = pattern.cause
    for name, value in hit.match.groupdict().items():
        cause = cause.replace(f"{{{name}}}", value or "?")
    return Verdict(pattern.name, cause, pattern.remedy, evidence=[_shown(hit.line)])


def _unknown(scan: Scan, first: Failure | None, traceback: list[str] | None) -> Verdict:
    """No entry of the table knows it: the first error itself is all there is to say."""
    if traceback:
        cause = "no known pattern; the first error is the one below"
    elif first:
        cause = "no known pattern, and the one that ended first left no traceback"
    else:
        cause = "no known pattern"
    return Verdict(
        "unknown",
        cause,
        "read the traceback from its last line up" if traceback else "the log's last lines are below",
        evidence=[] if traceback else [_shown(line) for line in scan.last],
    )


def _traceback(scan: Scan, first: Failure | None, best: Hit | None) -> list[str] | None:
    """The end of the traceback that matters: of the rank that failed first, else the first that is no consequence."""
    rank = first.rank if first else best.line.source.rank if best else None
    if first and first.traceback:
        return first.traceback[-_LAST_FRAMES:]
    found: list[Traceback] = sorted(
        scan.tracebacks.values(),
        key=lambda one: (rank is not None and one.source.rank != rank, one.is_consequence, one.source.rank is None),
    )
    if not found or (rank is not None and found[0].source.rank != rank):
        return None
    return [line[:_LONGEST] for line in found[0].lines[-_LAST_FRAMES:]]


def _who(first: Failure | None, best: Hit | None, traceback: list[str] | None) -> str:
    del traceback
    if first:
        return str(Source(first.rank, first.where))
    return str(best.line.source) if best else ""


def _followed(scan: Scan, first: Failure | None, best: Hit | None) -> list[str]:
    """Everyone else that ended, by how."""
    own = first.rank if first else best.line.source.rank if best else None
    groups: dict[str, set[int]] = defaultdict(set)
    told = {own}
    for failure in scan.failures:
        if failure.rank is not None and failure.rank not in told:
            groups["ended by its launcher (SIGTERM)" if failure.was_ended else failure.shown].add(failure.rank)
            told.add(failure.rank)
    for source in scan.followers:
        if source.rank is not None and source.rank not in told:
            groups["lost the connection to another"].add(source.rank)
    return [f"rank{'s' * (len(ranks) > 1)} {_spans(ranks)}: {how}" for how, ranks in groups.items()]


def _spans(numbers: set[int]) -> str:
    """1-3, 7"""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)


def _shown(line: Line) -> str:
    return f"{line.place}: {line.text[:_LONGEST]}"
