"""From a scan to a verdict. `patterns.toml` begins with the rule by which an entry is chosen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from . import failures
from .failures import Failure
from .lines import Line, Source
from .patterns import Retry
from .scan import Hit, Scan, Traceback

_LAST_FRAMES = 12
_LONGEST = 300


@dataclass
class Verdict:
    """The diagnosis of a run. name: of an entry in patterns.toml, or `unknown`, `completed`, `going`, `no-failure`.

    retry: whether another attempt may do better; None: the cause is not known.
    """

    name: str
    cause: str
    remedy: str = ""
    retry: Retry | None = None
    where: str = ""  # the node, pod or task that it failed on first
    first: str = ""  # which rank failed first, and how
    evidence: list[str] = field(default_factory=list)  # "file:line: what it says"
    traceback: list[str] = field(default_factory=list)  # its last lines
    followed: list[str] = field(default_factory=list)  # which ranks ended after it, and how
    notes: list[str] = field(default_factory=list)


def verdict(scan: Scan, place: str = "") -> Verdict | None:
    """Why the run failed; None if no line says that it did. place: its handle's scheme, which selects the remedy."""
    ended = failures.first(scan.failures, {source.rank for source in scan.followers if source.rank is not None})
    hits = [hit for of_pattern in scan.hits.values() for hit in of_pattern.values()]
    hit = min(hits, key=lambda one: _order(one, ended), default=None)
    raised = _raised(scan, ended)
    if hit and raised and hit.pattern.symptom and _is_another_fault(raised, scan):
        hit = None
    first = _first(ended, hit, raised)
    if first is None and not scan.failures:
        return None
    traceback = _traceback(first, ended, scan.tracebacks) if first else []
    found = _known(hit, place) if hit else _unknown(scan, traceback)
    found.first = _how_it_ended(first, ended) if first else ""
    found.where = _where(first, ended, hit)
    found.traceback = [line[:_LONGEST] for line in traceback[-_LAST_FRAMES:]]
    found.followed = _other_ranks(scan, first)
    return found


def _order(hit: Hit, ended: Failure | None) -> tuple[bool, bool, bool, int, int]:
    elsewhere = ended is not None and ended.rank is not None and hit.line.source.rank != ended.rank
    from_scheduler = hit.line.source.where == "scheduler"
    return hit.pattern.symptom, from_scheduler, elsewhere, hit.order, hit.pattern.index


def _raised(scan: Scan, ended: Failure | None) -> Traceback | None:
    """The first traceback: preferably of the process that failed first, and no consequence of another failure."""
    own = [one for one in scan.tracebacks.values() if not one.is_summary]
    first = ended.rank if ended else None

    def order(one: Traceback) -> tuple[bool, bool, bool]:
        elsewhere = first is not None and one.source.rank != first
        return elsewhere, one.is_consequence, one.source.rank is None  # a rank's before those of its launcher

    return min(own, key=order, default=None)


def _is_another_fault(raised: Traceback, scan: Scan) -> bool:
    """Whether a traceback is a cause that no entry knows. Then the symptoms of other ranks are its consequences."""
    known = any(source.rank == raised.source.rank for hits in scan.hits.values() for source in hits)
    return not raised.is_consequence and not known


def _first(ended: Failure | None, hit: Hit | None, raised: Traceback | None) -> Source | None:
    """Who failed first: a rank if one is known; as its launcher reports it, or else as its own lines do."""
    sources = [
        Source(ended.rank, ended.where) if ended else None,
        hit.line.source if hit and not hit.pattern.symptom else None,
        raised.source if raised else None,
        hit.line.source if hit else None,
    ]
    known = [source for source in sources if source]
    return next((source for source in known if source.rank is not None), next(iter(known), None))


def _where(first: Source | None, ended: Failure | None, hit: Hit | None) -> str:
    """Where a run failed first: where the line that names the cause was written, or else as the launcher reports it."""
    candidates = [hit.line.source.where if hit and not hit.pattern.symptom else "", ended.where if ended else ""]
    return next(filter(None, [*candidates, first.where if first else ""]), "")


def _how_it_ended(first: Source, ended: Failure | None) -> str:
    """ "rank 3 on n2: exit code 1, 2026-11-21T10:00:04" """
    if ended is None or (ended.rank, ended.where) != first:
        return str(first)
    where = f" on {ended.where}" if ended.rank is not None and ended.where else ""
    return f"{first}{where}: {ended.shown}" + (f", {ended.time}" if ended.time else "")


def _traceback(first: Source, ended: Failure | None, found: dict[Source, Traceback]) -> list[str]:
    """The traceback of who failed first: from its launcher's report, or from the log."""
    if ended and ended.rank == first.rank and ended.traceback:
        return ended.traceback
    of_first = [one for one in found.values() if one.source.rank == first.rank and not one.is_summary]
    return of_first[0].lines if of_first else []


def _known(hit: Hit, place: str) -> Verdict:
    cause = hit.pattern.cause
    for name, value in hit.match.groupdict().items():
        cause = cause.replace(f"{{{name}}}", value or "?")
    remedy = hit.pattern.remedies.get(place, hit.pattern.remedies[""])
    return Verdict(hit.pattern.name, cause, remedy, hit.pattern.retry, evidence=[_shown(hit.line)])


def _unknown(scan: Scan, traceback: list[str]) -> Verdict:
    """The verdict if no entry matches: it shows the first traceback, or else the last lines."""
    if traceback:
        return Verdict("unknown", "no known pattern; its traceback is below", "read it from its last line up")
    shown = [_shown(line) for line in scan.last]
    return Verdict("unknown", "no known pattern, and no traceback", "the log's last lines are below", evidence=shown)


def _other_ranks(scan: Scan, first: Source | None) -> list[str]:
    """The other ranks that ended, grouped by how they ended."""
    groups: dict[str, set[int]] = defaultdict(set)
    listed = {first.rank if first else None}
    for failure in scan.failures:
        if failure.rank is not None and failure.rank not in listed:
            groups["ended by the launcher (SIGTERM)" if failure.was_ended else failure.shown].add(failure.rank)
            listed.add(failure.rank)
    for source in scan.followers:
        if source.rank is not None and source.rank not in listed:
            groups["lost the connection to another"].add(source.rank)
    return [f"rank{'s' * (len(ranks) > 1)} {_spans(ranks)}: {how}" for how, ranks in groups.items()]


def _spans(numbers: set[int]) -> str:
    """Numbers as text, such as "1-3, 7"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)


def _shown(line: Line) -> str:
    return f"{line.place}: {line.text[:_LONGEST]}"
