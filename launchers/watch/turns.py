"""Points of a sweep that wait, suspended, until others have ended: whoever watches the sweep lets them go."""

from __future__ import annotations

import time
from pathlib import Path

from ..audit import provenance
from ..backends import registry
from ..backends.base import Say, TurnsBackend
from ..errors import SchedulerError
from ..runs.records import Run
from . import states

POLL_SECONDS = 2.0


def give(runs: list[Run], say: Say) -> None:
    """Let the suspended ones of these runs go, one as another ends, until none is left that waits.

    Returns at once if none is a point of a sweep that is held to a number of runs at once, or if their place holds them
    to it by itself. Raises SchedulerError as `states.wait`.
    """
    backend = registry.of(runs[0].scheme)
    if not isinstance(backend, TurnsBackend):
        return
    held: dict[int, list[Run]] = {}  # a pipeline has other steps, too
    for run in runs:
        most = provenance.read(Path(run.run_dir)).get("max_parallel") if run.run_dir else None
        if most:
            held.setdefault(most, []).append(run)
    for most, points in held.items():
        _give(points, most, backend, say)


def _give(runs: list[Run], most: int, backend: TurnsBackend, say: Say) -> None:
    last_answer = time.monotonic()
    while True:
        try:
            runs = states.refresh(runs)
            last_answer = time.monotonic()
        except SchedulerError as error:
            if time.monotonic() - last_answer > states.PATIENCE_SECONDS:
                raise
            say(f"{str(error).splitlines()[0]}; asking again")
            time.sleep(POLL_SECONDS)
            continue
        waiting = [run for run in runs if backend.waits_for_its_turn(run)]
        live = sum(not run.status.is_final for run in runs) - len(waiting)
        for run in waiting[: max(0, most - live)]:
            backend.release(run)  # a refusal, such as for want of a right, is none that waiting mends
            say(f"{run.handle} {run.name}: its turn")
            waiting.remove(run)
        if not waiting:
            return
        time.sleep(POLL_SECONDS)


def notice(runs: list[Run]) -> str:
    """What to do about points that nobody lets go; "" if there are none."""
    backend = registry.of(runs[0].scheme)
    if not isinstance(backend, TurnsBackend):
        return ""
    held = [run for run in runs if provenance.read(Path(run.run_dir)).get("suspended")]
    sweep = runs[0].pipeline.partition("/")[0]
    if not held:
        return ""
    return f"{len(held)} of {len(runs)} points are suspended: `alignlaunch wait {sweep}` lets one go as another ends"
