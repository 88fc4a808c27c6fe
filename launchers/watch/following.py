"""Follow the log of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..backends import registry
from ..backends.base import Say, Wanted
from ..runs.records import Run
from . import states
from .states import FIRST_POLL, LAST_POLL


def follow(run: Run, say: Say, wanted: Wanted, count: int | None = None) -> Iterator[str]:
    """The last `count` wanted lines of the log (all for None), then later ones as they come, until the run ends."""
    next_poll, delay = 0.0, FIRST_POLL
    answers = states.states(run, say, lambda *_: None)  # no pauses: `is_over` itself limits how often it polls

    def is_over() -> bool:
        nonlocal next_poll, delay
        if time.monotonic() < next_poll:
            return False
        now = next(answers)
        next_poll, delay = time.monotonic() + delay, min(delay * 1.5, LAST_POLL)
        return now is not None and now.status.is_final

    yield from registry.of(run.scheme).log(run, count, wanted, is_over, say)
