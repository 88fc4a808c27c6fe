"""`train.effective_batch_size`: the examples of one optimizer step, in the place of micro-batch and accumulation.

The key itself reaches no trainer: the two that it stands for are put into the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import Problem
from ..planner import micro_batches
from . import defaults
from .legacy import put
from .yamlfile import Document, Path_

KEY, MICRO, ACCUMULATION = "effective_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps"
#: How the key is typed, beside the trainers' own arguments (`rules.trainer_args`).
ARGUMENT = {KEY: {"type": "int"}}
PATH: Path_ = ("train", KEY)
#: More examples in a step than anybody trains with; a bound for what is divided.
MOST = 1 << 20
_NODES = re.compile(r"(\d+:)?(\d+)")


class Settled(NamedTuple):
    """How the key was settled.

    why: for people; "" if the job does not have the key. is_open: the job leaves the micro-batch to the planner.
    """

    why: str = ""
    is_open: bool = False
    problems: tuple[Problem, ...] = ()


def settle(document: Document) -> Settled:
    """Put micro-batch and accumulation in the place of the key, so that times the processes they make it exactly.

    Of the two one may be given. With neither the micro-batch is the stage's default as far as it divides a process's
    examples. Values that are no counts stay, and are reported with those of the trainer's other arguments.
    """
    train, stage = document.data.get("train"), document.data.get("stage")
    if not isinstance(train, dict) or KEY not in train or stage not in defaults.STAGES:
        return Settled()
    processes = _processes(document.data)
    counts = {key: train[key] for key in (KEY, MICRO, ACCUMULATION) if key in train}
    if processes is None or not all(type(value) is int and 0 < value <= MOST for value in counts.values()):
        return Settled()
    size, given = counts.pop(KEY), next(iter(counts), None)
    place = document.place(PATH)
    del train[KEY]

    def refused(rule: str, remedy: str) -> Settled:
        return Settled(problems=(Problem(place, f"train.{KEY}", size, rule, remedy),))

    if len(counts) == 2:
        return refused(f"train.{MICRO} and train.{ACCUMULATION} are given as well", "remove one of the three")
    unit = processes * counts.get(given or "", 1)
    if size % unit:
        times = f" x {counts[given]} of train.{given}" if given else ""
        remedy = " or ".join(map(str, _multiples(size, unit)))
        if given and size % processes == 0:
            remedy += f"; or train.{given}: {' or '.join(map(str, _divisors_near(size // processes, counts[given])))}"
        return refused(f"{processes} processes{times} cannot share it evenly", remedy)
    share = size // processes
    micro = counts.get(MICRO) or (share // counts[ACCUMULATION] if given else largest(share, _default(stage)))
    for key, value in ((MICRO, micro), (ACCUMULATION, share // micro)):
        put(document, ("train", key), value, document.values.get(("train", key), place))
    return Settled(f"train.{given} is given" if given else "the stage's default", is_open=given is None)


def largest(share: int, most: int) -> int:
    """The largest micro-batch of at most `most` examples that divides a process's examples of a step."""
    return next(micro for micro in micro_batches.of(share) if micro <= most)


def _multiples(size: int, unit: int) -> Iterator[int]:
    """The multiples of `unit` next to `size`."""
    yield from (near for near in (size // unit * unit, (size // unit + 1) * unit) if near)


def _divisors_near(share: int, value: int) -> list[int]:
    below = [one for one in micro_batches.of(share) if one < value]
    above = [one for one in micro_batches.of(share) if one > value]
    return [*below[:1], *above[-1:]]


def _default(stage: Any) -> int:
    return next(int(one.value) for one in defaults.for_stage(stage) if one.key == f"train.{MICRO}")


def _processes(data: dict[str, Any]) -> int | None:
    """Processes of the job, of an elastic one the most; None if the numbers are not valid."""
    nodes, each = data.get("nnodes", 1), data.get("nproc_per_node", 1)
    found = _NODES.fullmatch(str(nodes)) if type(nodes) in (int, str) else None
    return (int(found[2]) * each or None) if found and type(each) is int and each > 0 else None
