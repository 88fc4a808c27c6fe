"""One's runs as they are now, looked at again and again: those that have not ended, or only a short while ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ..errors import LaunchError
from ..retry import history
from ..runs import records
from ..runs.records import Run
from ..watch import chosen, overview, states
from ..watch.overview import Overview

#: An ended run is shown for so many seconds.
SHOWN_AFTER_END = 3600
#: Of so many of the latest runs, those are asked for that have not ended, and the very latest, which may be requeued.
_MOST, _LATEST = 1000, 50


@dataclass(frozen=True)
class Watched:
    """attempt: number of the last one; 0: none is known."""

    now: Overview
    attempt: int

    @property
    def run(self) -> Run:
        return self.now.run


@dataclass(frozen=True)
class Seen:
    """What a look has found, newest first. troubles: what could not be asked, in a line each."""

    rows: list[Watched] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    time: float | None = None


class Look:
    """Asks each place once for all runs, and reads of each run's records the end."""

    def __init__(self, name: str | None, wanted: Collection[str], count: int) -> None:
        """name: a pattern. wanted: states; (): any. count: the most runs."""
        self._name, self._wanted, self._count = name, {state.upper() for state in wanted}, count
        self._open: set[str] = set()
        self._closed: dict[str, float] = {}  # handle → when it was seen that an open run had ended

    def __call__(self) -> Seen:
        """Raises LaunchError if the record of runs cannot be read."""
        unanswered: dict[str, LaunchError] = {}
        latest = list(chosen.submitted(records.load(_MOST), name=self._name))
        asked = [run for number, run in enumerate(latest) if number < _LATEST or not run.status.is_final]
        now = time.time()
        found = [overview.of(run, now) for run in states.refresh(asked, unanswered) if self._is_wanted(run)]
        rows = [Watched(one, len(history.read(one.run))) for one in found if self._is_shown(one, now)][: self._count]
        troubles = [" ".join(str(error).split()) for error in unanswered.values()]
        return Seen(rows, list(dict.fromkeys(troubles)), now)

    def _is_wanted(self, run: Run) -> bool:
        return not self._wanted or run.status.state in self._wanted

    def _is_shown(self, one: Overview, now: float) -> bool:
        handle = one.run.handle
        if not one.run.status.is_final:
            self._open.add(handle)
            return True
        if handle in self._open:
            self._open.remove(handle)
            self._closed[handle] = now
        submitted = one.run.submitted.timestamp() if one.run.submitted else None
        ends = (one.ended, self._closed.get(handle), None if one.ended else submitted)
        return max((end for end in ends if end is not None), default=0) > now - SHOWN_AFTER_END


class Watcher:
    """Looks in a thread of its own, so that a place that is slow to answer holds nobody up."""

    def __init__(self, look: Callable[[], Seen], interval: float) -> None:
        """interval: seconds from the end of a look to the next one."""
        self._look, self._interval = look, interval
        self._seen = Seen()
        self._failure: BaseException | None = None
        self._wake = threading.Event()
        threading.Thread(target=self._go_on, daemon=True).start()

    @property
    def seen(self) -> Seen:
        """What the last look has found. Raises what ended the looking."""
        if self._failure:
            raise self._failure
        return self._seen

    def look_again(self) -> None:
        """Look now."""
        self._wake.set()

    def _go_on(self) -> None:
        while not self._failure:
            try:
                self._seen = self._look()
            except (LaunchError, OSError) as error:
                self._seen = Seen(self._seen.rows, [" ".join(str(error).split())], self._seen.time)
            except BaseException as error:  # noqa: BLE001 - a defect; `seen` raises it
                self._failure = error
            self._wake.wait(self._interval)
            self._wake.clear()
