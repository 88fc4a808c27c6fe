"""The attempts of a run: what its processes recorded (timeline.jsonl) and what was decided (attempts.jsonl), as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignlaunch.train.outputs import goodput as split
from alignlaunch.train.outputs import timeline
from alignlaunch.train.outputs.goodput import Goodput
from alignlaunch.train.outputs.timeline import Attempt

from ..backends import registry
from ..runs.records import Run
from . import attempts
from .attempts import Recorded


@dataclass(frozen=True)
class Past:
    """An attempt of a run.

    start, end: seconds since 1970; None: not known, or it still runs. cause: why it ended; "" while it runs. node: the
    one where it failed first, if that is known. steps: after which it began to train, and to which it came; None: it
    did not train. then: what was decided about another attempt.
    """

    start: float | None
    end: float | None
    cause: str
    nodes: str
    node: str = ""
    steps: tuple[int, int] | None = None
    then: str = ""


def read(run: Run) -> list[Past]:
    """The attempts of a run, oldest first; none if its folders are not seen from here."""
    decided = attempts.read(Path(run.run_dir)) if run.run_dir else []
    return joined(_timeline(run), decided, runs=run.status.state == "RUNNING")


def goodput(run: Run) -> Goodput | None:
    """Where its wall time went, until its last sign of life; None if its output folder is not seen from here."""
    return split.of(_timeline(run))


def as_json(run: Run, *, with_goodput: bool) -> dict[str, Any]:
    """What `status --json` tells besides the state."""
    data: dict[str, Any] = {"attempts": [asdict(one) for one in read(run)]}
    if with_goodput:
        data["goodput"] = goodput_as_json(goodput(run))
    return data


def goodput_as_json(found: Goodput | None) -> dict[str, Any] | None:
    """The same for programs, in `status` and `compare`."""
    return asdict(found) | {"wall": found.wall, "goodput": found.goodput} if found else None


def joined(trained: Sequence[Attempt], decided: Sequence[Recorded], *, runs: bool) -> list[Past]:
    """One list of attempts. An attempt that died before it recorded anything is there only if a decision followed.

    runs: whether the run is RUNNING.
    """
    starts = [one.marks[0].time for one in trained]
    of_attempt: dict[int, Recorded] = {}
    alone = []
    for one in decided:
        last = max((i for i, start in enumerate(starts) if start <= one.time), default=None)
        if last is None or last in of_attempt or trained[last].outcome in ("completed", "stopped"):
            alone.append(Past(None, one.time, one.ended.cause, "", one.ended.node, then=_then(one)))
        else:
            of_attempt[last] = one
    found = [_past(one, of_attempt.get(i), is_running=runs and i == len(trained) - 1) for i, one in enumerate(trained)]
    return sorted([*found, *alone], key=lambda one: one.start if one.start is not None else one.end or 0)


def _past(one: Attempt, decided: Recorded | None, *, is_running: bool) -> Past:
    steps = None if one.trains_from is None else (one.trains_from, max(one.trains_from, one.ended.step))
    start, end = one.marks[0].time, one.ended.time
    if decided:
        return Past(start, end, decided.ended.cause, one.nodes, decided.ended.node, steps, _then(decided))
    if is_running and not one.outcome:
        return Past(start, None, "", one.nodes, steps=steps)
    return Past(start, end, one.outcome or timeline.CUT_OFF, one.nodes, steps=steps)


def _then(one: Recorded) -> str:
    without = f", without {one.decision.without}" if one.decision.without else ""
    return ("tried again" if one.decision.again else "not tried again") + without


def _timeline(run: Run) -> list[Attempt]:
    if not run.output_dir or not run.run_dir or not registry.of(run.scheme).shares_files:
        return []
    return timeline.read(Path(run.output_dir), run.run_dir)
