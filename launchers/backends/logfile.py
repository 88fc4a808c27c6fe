"""A run with one log file for all ranks: show its last lines, the lines of one rank or node, or follow it."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path

from ..runs.records import Run
from .base import IsOver, Say, Wanted

#: `srun --label` puts the task's number first; then comes torchrun's prefix with the rank, which our scripts set.
_LINE = re.compile(r"^(?:(?P<task>\d+): )?(?:\[rank(?P<rank>\d+)\]: ?)?")
POLL_SECONDS = 0.5
NO_LOG_YET = "no log yet\n    remedy: --follow waits for it"


class LogFile:
    """Mixin for a backend that queries all its runs together, and whose logs are files that this machine sees."""

    shares_files = True
    requeues = False
    labels_tasks = False

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        return [runs]

    def has_log(self, run: Run) -> bool:
        return Path(run.log).is_file()

    def log(self, run: Run, count: int | None, wanted: Wanted, is_over: IsOver | None, say: Say) -> Iterator[str]:
        """The last `count` wanted lines; with `is_over` also every later line until it is true."""
        del say
        path, read = Path(run.log), 0
        if path.is_file():
            read = yield from tail(path, count, wanted, whole=is_over is not None)
        if is_over:
            yield from follow(path, read, wanted, is_over)

    def why_no_log(self, run: Run) -> str:
        del run
        return NO_LOG_YET

    def keep_log(self, run: Run, say: Say) -> None:
        """Nothing to do: the log file stays when the run ends."""

    def pause(self, run: Run, seconds: float) -> None:
        """Sleep: nothing notifies when such a run changes."""
        del run
        time.sleep(seconds)


def selector(rank: int | None, node: int | None, tasks_per_node: int | None) -> Wanted:
    """Which lines to show. tasks_per_node: given if each srun task is one rank; without it a task is a node."""

    def wanted(line: str) -> bool:
        of_rank, of_node = marks(line, tasks_per_node)
        return (rank is None or of_rank == rank) and (node is None or of_node == node)

    return wanted


def marks(line: str, tasks_per_node: int | None) -> tuple[int | None, int | None]:
    """(rank, node) that a line is marked with; None where it is not. tasks_per_node: as for `selector`."""
    match = _LINE.match(line)
    task = int(match["task"]) if match and match["task"] else None
    if tasks_per_node:
        return task, None if task is None else task // tasks_per_node
    return int(match["rank"]) if match and match["rank"] else None, task


def tail(path: Path, count: int | None, wanted: Wanted, *, whole: bool = False) -> Generator[str, None, int]:
    """The last `count` wanted lines; with None all of them, yielded while reading. Returns the offset to `follow` from.

    whole: leave out a last line without its line break, which is still being written.
    """
    with path.open("rb") as file:
        end = path.stat().st_size
        kept: deque[str] = deque(maxlen=count)
        read = 0
        for raw in file:
            if read + len(raw) > end or (whole and not raw.endswith(b"\n")):
                break
            read += len(raw)
            line = raw.decode("utf-8", errors="replace")
            if not wanted(line):
                continue
            line = line if line.endswith("\n") else f"{line}\n"
            if count is None:
                yield line
            else:
                kept.append(line)
    yield from kept
    return read


def follow(path: Path, start: int, wanted: Wanted, is_over: IsOver) -> Iterator[str]:
    """Complete lines from byte `start` on as they are written; when `is_over()`, the rest, and return.

    The file may not exist yet.
    """
    rest = b""
    while True:
        over = is_over()  # before reading, so that nothing written before the end is missed
        if path.exists():
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            start += len(data)
            *lines, rest = (rest + data).split(b"\n")
            if over and rest:
                lines, rest = [*lines, rest], b""
            for line in lines:
                text = line.decode("utf-8", errors="replace") + "\n"
                if wanted(text):
                    yield text
        if over:
            return
        time.sleep(POLL_SECONDS)
