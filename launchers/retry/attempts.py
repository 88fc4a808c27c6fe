"""The record of a run's attempts that failed, and of what was decided: a line for each in the run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..diagnose.patterns import Retry
from ..files import append
from .decision import Decision, Ended

FILE = "attempts.jsonl"


@dataclass(frozen=True)
class Recorded:
    """An attempt that failed at `time` (seconds since 1970), with the line of the log that told why."""

    time: float
    ended: Ended
    decision: Decision
    evidence: str


def add(folder: Path, one: Recorded) -> None:
    """Append an attempt. Raises OSError."""
    ended, decision = one.ended, one.decision
    record = {
        "time": round(one.time, 3),
        "cause": ended.cause,
        "retry": ended.retry.value if ended.retry else None,
        "code": ended.code,
        "step": ended.step,
        "node": ended.node,
        "again": decision.again,
        "why": decision.why,
        "without": decision.without,
        "evidence": one.evidence,
    }
    append(folder / FILE, json.dumps(record, ensure_ascii=False) + "\n")


def read(folder: Path) -> list[Recorded]:
    """The attempts in a run's folder, oldest first, without lines that are no records, such as a last one cut off."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            one = json.loads(line)
            retry = Retry(one["retry"]) if one["retry"] else None
            ended = Ended(str(one["cause"]), retry, int(one["code"]), int(one["step"]), str(one["node"]))
            decision = Decision(bool(one["again"]), str(one["why"]), str(one["without"]))
            recorded = Recorded(float(one["time"]), ended, decision, str(one["evidence"]))
            datetime.fromtimestamp(recorded.time)  # raises if it is no time
            found.append(recorded)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError, OSError):
            continue
    return found
