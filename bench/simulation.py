"""A month of a large run, by the decisions of `launchers.retry`: `python -m bench.simulation [--write FILE]`.

No processes: failures come at random, by the nodes' mean time between failures (MTBF). What follows one is asked of the
function that the batch script asks, and costs what it costs there. The seeds are fixed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from alignlaunch.launchers.diagnose.patterns import Retry
from alignlaunch.launchers.planner.saves import NODE_MTBF as MTBF
from alignlaunch.launchers.planner.saves import best_interval
from alignlaunch.launchers.retry.decision import Ended, decide

from . import made_page

HOUR, DAY = 3600.0, 86400.0
MONTH = 30 * DAY
NODES = 1024
#: Part of the interruptions that the node's hardware is to blame for: about 78 % there.
HARDWARE = 0.78
#: Some nodes fail this much more often. (Meta RSC, arXiv:2410.21680: 1.2 to 1.7 % of the nodes were such lemons.)
LEMONS, LEMON_FACTOR = 0.015, 20
#: Seconds that a save holds up the training.
SAVE = 60.0
INTERVALS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
_SEEDS = 40


INTRODUCTION = """\
A month of a run on {nodes:,} nodes is simulated, {seeds} times, with the failures of Llama 3's training: a node fails
every {days:.0f} days, so the run every {hours:.1f} hours; {hardware:.0%} of it is hardware; {lemons:.1%} of the nodes
fail {factor} times as often. A save takes {save:.0f} s. What follows a failure is decided by the code of
the batch script. The table shows goodput: the part of the month in which steps were trained that counted."""

END = """\
Young/Daly is the first-order formula without restarts: 1 - save/interval - interval/(2 MTBF), whose best interval is
√(2 · save · MTBF). Llama 3 reports more than 90 % effective time. Near the best interval the goodput is flat; what
follows a failure counts for more: a person who submits again costs almost half of the month."""


@dataclass(frozen=True)
class Policy:
    """What follows a failure.

    restart: seconds until the next step. in_place: those of a restart of processes that were killed; None: the same.
    excludes: a faulty node is left out of the next attempts.
    """

    name: str
    restart: float
    in_place: float | None = None
    excludes: bool = False


POLICIES = (
    Policy("a person submits again", 4 * HOUR),
    Policy("requeued", 20 * 60),
    Policy("requeued, without a faulty node", 20 * 60, excludes=True),
    Policy("restarted in place, requeued without a faulty node", 20 * 60, in_place=4 * 60, excludes=True),
)


def simulate(policy: Policy, interval: float, seed: int) -> float:
    """The part of a month in which steps were trained that counted. interval: seconds of training between two saves."""
    chance = random.Random(seed)  # noqa: S311 - no cryptography
    lemons = round(LEMONS * NODES)
    now, trained, step, before = 0.0, 0.0, 0, list[Ended]()
    while now < MONTH:
        rate = (NODES - lemons + lemons * LEMON_FACTOR) / MTBF
        until = min(chance.expovariate(rate), MONTH - now)
        saves = int(until // (interval + SAVE))
        now, trained, step = now + until, trained + saves * interval, step + saves
        if now >= MONTH:
            return (trained + min(interval, until - saves * (interval + SAVE))) / MONTH
        is_lemon = chance.random() < lemons * LEMON_FACTOR / MTBF / rate
        is_hardware = is_lemon or chance.random() < HARDWARE
        node = f"n{chance.randrange(NODES)}"
        ended = Ended("xid", Retry.ELSEWHERE, 1, step, node) if is_hardware else Ended("killed", Retry.AGAIN, -9, step)
        decision = decide(ended, before[-20:])
        before.append(ended)
        if is_lemon and decision.without and policy.excludes:
            lemons -= 1
        cheap = policy.in_place if not is_hardware else None
        # Where the rules say that there is no further attempt, somebody looks first.
        now += (cheap or policy.restart) if decision.again else POLICIES[0].restart
    return trained / MONTH


def mean(policy: Policy, interval: float) -> float:
    """Over some months."""
    return sum(simulate(policy, interval, seed) for seed in range(_SEEDS)) / _SEEDS


def page() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    job_mtbf = MTBF / NODES
    best = best_interval(SAVE, job_mtbf)
    yield "<!-- Made by `make save-interval-page`. Do not edit. -->"
    yield "# How often to save"
    yield ""
    yield from INTRODUCTION.format(
        nodes=NODES,
        seeds=_SEEDS,
        days=MTBF / DAY,
        hours=job_mtbf / HOUR,
        hardware=HARDWARE,
        factor=LEMON_FACTOR,
        lemons=LEMONS,
        save=SAVE,
    ).splitlines()
    head = ["save every", *(policy.name for policy in POLICIES), "Young/Daly"]
    rows = []
    for factor in INTERVALS:
        interval = factor * best
        daly = 1 - SAVE / interval - interval / (2 * job_mtbf)
        mark = " (best by Young/Daly)" if factor == 1 else ""
        cells = [f"{mean(policy, interval):.1%}" for policy in POLICIES]
        rows.append([f"{interval / 60:.0f} min{mark}", *cells, f"{daly:.1%}"])
    yield from made_page.table(head, rows)
    yield ""
    yield from END.splitlines()


if __name__ == "__main__":
    made_page.main(__doc__, page)
