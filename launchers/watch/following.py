"""The log of a run as it grows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..backends import registry
from ..backends.base import Say, Wanted
from ..runs.records import Run
from . import states
from .states import FIRST_POLL, LAST_POLL


def follow(run: Run, say: Say, wanted: Wanted, count: int | None = None) -> Iterator[str]:
    """The last `count` log lines, and then more as they come, until the run ends."""
    due, delay = 0.0, FIRST_POLL
    answers = states.states(run, say, lambda *_: None)  # `is_over` has its own pace

    def is_over() -> bool:
        nonlocal due, delay
        if time.monotonic() < due:
            return False
        now = next(answers)
        due, delay = time.monotonic() + delay, min(delay * 1.5, LAST_POLL)
        return now is not None and now.status.is_final

    yield from registry.of(run.scheme).log(run, count, wanted, is_over, say)
