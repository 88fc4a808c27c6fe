"""Which runs of the record are meant by a name's pattern and a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from ..errors import UsageError
from ..runs.records import Run

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def submitted(runs: Iterable[Run], *, name: str | None = None, since: str | None = None) -> Iterator[Run]:
    """Those with a name that matches, submitted since then. Raises UsageError."""
    begin = moment(since, datetime.now(UTC)) if since else None
    for run in runs:
        if name and not fnmatchcase(run.name, name):
            continue
        if begin is None or run.submitted is None or run.submitted >= begin:
            yield run


def moment(text: str, now: datetime) -> datetime:
    """`2d` before now, or a date (and time) of this machine's zone. Raises UsageError."""
    try:
        if match := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--since {text}: no time\n    remedy: 30m, 12h, 2d, 1w or 2026-11-29") from error
