"""Goodput: where the wall time of a run went, from its submission to its end. Pure functions of its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from math import inf

from ..processes.beats import EVALUATION, START, TRAINING
from .timeline import Attempt, Mark

#: The parts of the wall time, in the order in which they are told.
PARTS = ("queue", "start-up", "preparation", "training", "saves", "evaluation", "lost steps", "restarts")


@dataclass(frozen=True)
class Goodput:
    """seconds: of each of PARTS; together they are the time from `begin` to `end` (seconds since 1970)."""

    begin: float
    end: float
    seconds: dict[str, float]

    @property
    def wall(self) -> float:
        return self.end - self.begin

    def share(self, part: str) -> float:
        """A part of the wall time, from 0 to 1."""
        return self.seconds[part] / self.wall if self.wall else 0.0

    @property
    def goodput(self) -> float:
        """The share of training whose result was kept."""
        return self.share("training")

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {100 * self.share(part):.1f} %" for part in PARTS if self.seconds[part])
        return f"goodput {100 * self.goodput:.1f} % of {timedelta(seconds=round(self.wall))}: {parts}"


def of(attempts: Sequence[Attempt]) -> Goodput | None:
    """Split the wall time of a run. attempts: all of them, oldest first; without any there is nothing to split.

    The time line is walked along once, and each stretch of it given to one part, so that the parts add up. A clock that
    was set back makes a stretch of no length.
    """
    if not attempts:
        return None
    first = attempts[0]
    walk = _Walk(first.began if first.queued is None else first.queued)
    for number, attempt in enumerate(attempts):
        if number and attempt.queued is not None:
            walk.to(attempt.queued, "restarts")
        if attempt.queued is not None:
            walk.to(attempt.began, "queue")
        # What a later attempt goes on from: the steps after it are trained again.
        kept = min((step for one in attempts[number + 1 :] if (step := one.trains_from) is not None), default=inf)
        has_trained = False
        for mark, after in pairwise([Mark(attempt.began, START, 0), *attempt.marks, attempt.ended]):
            if mark.phase == TRAINING:
                has_trained = True
                _train(walk, mark, after, kept)
            elif mark.phase == EVALUATION:
                walk.to(after.time, "evaluation")
            elif has_trained:  # a checkpoint, or the result after the last step
                walk.to(after.time, "saves")
            elif number:
                walk.to(after.time, "restarts")
            else:
                walk.to(after.time, "start-up" if mark.phase == START else "preparation")
    return Goodput(walk.begin, walk.now, walk.seconds)


class _Walk:
    """A walk along the time line, which gives each stretch to a part."""

    def __init__(self, begin: float) -> None:
        self.begin = self.now = begin
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def to(self, time: float, part: str) -> None:
        self.seconds[part] += max(0.0, time - self.now)
        self.now = max(self.now, time)


def _train(walk: _Walk, mark: Mark, after: Mark, kept: float) -> None:
    """Training from one mark to another, of which the steps up to `kept` count."""
    if after.step <= kept:
        walk.to(after.time, "training")
        return
    share = max(0.0, (kept - mark.step) / (after.step - mark.step)) if after.step > mark.step else 0.0
    walk.to(mark.time + share * (after.time - mark.time), "training")
    walk.to(after.time, "lost steps")
