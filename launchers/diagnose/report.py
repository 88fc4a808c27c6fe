"""A verdict on a run, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..backends.base import Say
from ..runs.records import FINAL
from . import advice, judge
from .gather import Evidence, find
from .judge import Verdict


def diagnose(text: str, say: Say) -> list[tuple[str, Verdict]]:
    """[(run or folder, verdict)]: several for a pipeline, one per run. Raises UsageError, SchedulerError."""
    return [(found.name, of(found)) for found in find(text, say)]


def of(found: Evidence) -> Verdict:
    """The verdict on what was found."""
    state = found.status.state if found.status else ""
    reason = found.status.reason if found.status else ""
    verdict = None if state == "COMPLETED" else judge.verdict(found.scan, found.name.partition("://")[0])
    if verdict is None:
        verdict = _without_failure(state, reason, found.scan.count)
    elif state and state not in FINAL:
        verdict.notes.append(f"the run is {state} still")
    verdict.notes += found.notes
    if verdict.name == "cuda-oom":
        verdict.notes += advice.advice(found.made_from, verdict.evidence + verdict.traceback)
    return verdict


def _without_failure(state: str, reason: str, count: int) -> Verdict:
    because = f": {reason}" if reason else ""
    if state == "COMPLETED":
        return Verdict("completed", f"the run ended well{because}")
    if state and state not in FINAL:
        return Verdict("going", f"the run is {state}{because}; nothing in its log says that it failed")
    if state:
        return Verdict("unknown", f"the run is {state}{because}; its log does not say why")
    return Verdict("no-failure", f"nothing in these {count} lines says that the run failed")


def as_json(name: str, verdict: Verdict) -> dict[str, Any]:
    """The parts of a verdict by their names."""
    found = asdict(verdict) | {"retry": verdict.retry.value if verdict.retry else None}
    return {"handle": name, "verdict": found.pop("name"), **found}


def as_text(name: str, verdict: Verdict) -> str:
    """The parts of a verdict, each with a label; the traceback last."""
    rows = [
        ("run", [name]),
        ("verdict", [f"{verdict.name}: {verdict.cause}"]),
        ("remedy", [verdict.remedy]),
        ("first", [verdict.first]),
        ("said", verdict.evidence),
        ("after it", verdict.followed),
        ("note", verdict.notes),
        ("traceback", verdict.traceback),
    ]
    return "\n".join(
        f"{label if i == 0 else '':<10}{line}" for label, lines in rows for i, line in enumerate(filter(None, lines))
    )
