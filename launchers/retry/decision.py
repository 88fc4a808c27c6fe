"""Whether a run that failed is tried again, and without which nodes: a pure function of what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignlaunch.train import finish

from ..diagnose.patterns import Retry

#: So many attempts in a row without a newer checkpoint end a run, though each of them might have done better.
MOST_WITHOUT_PROGRESS = 3

#: Causes that a process meets by itself. A node where one of them came first twice is left out; others, such as a lost
#: connection or a time limit, may come first anywhere.
OF_ONE_NODE = frozenset({"killed", "segfault", "hang", "node-failed", "infiniband", "nccl-cuda"})


@dataclass(frozen=True)
class Ended:
    """An attempt that failed, first on this node. step: of the newest complete checkpoint then, -1 without one."""

    cause: str
    retry: Retry | None
    code: int
    step: int
    node: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether there is another attempt, without which node, and why. without: "" for none."""

    again: bool
    why: str
    without: str = ""


def decide(last: Ended, before: Sequence[Ended]) -> Decision:
    """Decide about another attempt. before: the run's earlier attempts that failed, oldest first."""
    if last.code == finish.BAD_INPUT or last.retry is Retry.NEVER:
        return Decision(False, f"{last.cause}: another attempt would end in the same way")
    reached = max((one.step for one in before), default=-1)
    progressed = last.step > reached
    if last.retry is None and not progressed:
        return Decision(False, f"{last.cause}: the cause is not known, and no newer checkpoint was saved")
    fruitless = 0 if progressed else 1 + _without_progress(before)
    if fruitless >= MOST_WITHOUT_PROGRESS:
        return Decision(False, f"{last.cause}: {fruitless} attempts in a row ended without a newer checkpoint")
    why = f"{last.cause}: " + (f"it goes on from step {last.step}" if progressed else "it may do better")
    return Decision(True, why, last.node if _is_nodes_fault(last, before) else "")


def _without_progress(ended: Sequence[Ended]) -> int:
    """How many attempts at the end brought no newer checkpoint."""
    count = 0
    for i in range(len(ended) - 1, -1, -1):
        if ended[i].step > max((one.step for one in ended[:i]), default=-1):
            break
        count += 1
    return count


def _is_nodes_fault(last: Ended, before: Sequence[Ended]) -> bool:
    """Whether what failed points at the node: by its nature, or because that node was the first to fail before, too."""
    twice = last.cause in OF_ONE_NODE and any(one.node == last.node and one.cause in OF_ONE_NODE for one in before)
    return last.retry is Retry.ELSEWHERE or twice
