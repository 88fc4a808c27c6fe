"""What is said of a hang: a report of each rank, with its stacks, and from all of them which rank is behind."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

#: The folder of an output folder in which each attempt that hung has a folder with its reports.
STACKS = "stacks"

#: The place in Python where a rank waits for others. (autograd: DDP reduces gradients in the midst of it.)
_WAITS = re.compile(r"/torch/(?:distributed|autograd)/|/deepspeed/comm/|/torch/cuda/")
#: Of ranks that cannot be told apart so many are described.
_NAMED = 3
_FRAME = re.compile(r'  File "(?P<file>[^"]*)", line \d+ in (?P<function>.*)')


@dataclass(frozen=True, kw_only=True)
class Report:
    """One rank when the hang was noticed.

    place: the count of its beats, comparable between ranks. seconds: since its last sign of life. state: the process's,
    as the kernel has it, such as `T (stopped)`. waiting: for other ranks, as it says itself.
    """

    rank: int
    host: str
    pid: int
    phase: str
    step: int
    place: int
    seconds: int
    limit: int
    state: str
    waiting: bool
    stacks: str = ""

    def write(self, folder: Path) -> None:
        """Write `rank-N.txt`: the facts in the first line, then the stacks. Raises OSError."""
        facts = asdict(self)
        stacks = facts.pop("stacks")
        path = folder / f"rank-{self.rank:05d}.txt"
        aside = path.with_suffix(".part")
        aside.write_text(f"{json.dumps(facts)}\n\n{stacks}", encoding="utf-8")
        aside.replace(path)

    @property
    def where(self) -> str:
        """The function in which its main thread is; empty if that is not known."""
        frame = self._frame()
        return f"{frame['function']} ({os.path.basename(frame['file'])})" if frame else ""  # noqa: PTH119 - text

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for other ranks, as far as can be seen."""
        frame = self._frame()
        return self.waiting or bool(frame and _WAITS.search(frame["file"]))

    @property
    def is_stopped(self) -> bool:
        """Whether the process is stopped, or in the midst of a system call that does not return."""
        return self.state[:1] in ("T", "t", "D")

    def _frame(self) -> re.Match[str] | None:
        # The signal's thread is the main one; of the others the main thread is the last.
        threads = [text for text in self.stacks.split("\n\n") if "most recent call first" in text]
        current = next((text for text in threads if text.startswith("Current thread")), threads[-1] if threads else "")
        return _FRAME.search(current)


def read(folder: Path) -> list[Report]:
    """The reports so far, without files that are none. Raises OSError."""
    found = []
    for path in sorted(folder.glob("rank-*.txt")):
        facts, _, stacks = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")
        with suppress(ValueError, RecursionError):
            found.append(replace(msgspec.json.decode(facts, type=Report), stacks=stacks))
    return found


def behind(reports: Sequence[Report], awaited: Sequence[int]) -> list[int]:
    """The ranks for which the others wait; several if they cannot be told apart. awaited: ranks that must report."""
    known = {report.rank for report in reports}
    if absent := [rank for rank in awaited if rank not in known]:
        return absent
    least = min(report.place for report in reports)
    last = [report for report in reports if report.place == least]
    stopped = [report for report in last if report.is_stopped]
    busy = [report for report in last if not report.is_waiting]
    return [report.rank for report in stopped or busy or last]


def are_overdue(ranks: Sequence[int], reports: Sequence[Report]) -> bool:
    """Whether one of the ranks is overdue, or does not answer. The deadlines of two ranks may differ a little."""
    found = {report.rank: report for report in reports}
    return any(rank not in found or found[rank].seconds > 0.8 * found[rank].limit for rank in ranks)


def verdict(reports: Sequence[Report], ranks: Sequence[int], world_size: int, folder: Path) -> str:
    """The hang in one line. ranks: those that are behind."""
    found = {report.rank: report for report in reports}
    words = "; ".join(_words(rank, found.get(rank)) for rank in ranks[:_NAMED])
    if len(ranks) == world_size > 1:
        words = f"no rank is behind the others: {_words(ranks[0], found.get(ranks[0]))}"
    elif len(ranks) > _NAMED:
        words += f"; and {len(ranks) - _NAMED} ranks more"
    return f"hang: {words}. The stacks of {len(reports)} of {world_size} ranks: {folder}"


def _words(rank: int, report: Report | None) -> str:
    if report is None:
        return f"rank {rank} does not answer, nor does what watches it"
    at = f" in {report.where}" if report.where else ""
    stopped = f", its process {report.pid} is in state {report.state}" if report.is_stopped else ""
    return (
        f"rank {rank} on {report.host} makes no progress after step {report.step} ({report.phase}) for "
        f"{report.seconds} s (limit {report.limit} s){at}{stopped}"
    )
