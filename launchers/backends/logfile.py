"""One log file for all ranks of a run: its last lines, one rank's or node's lines, or everything as it comes."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from ..runs.records import Run

#: `srun --label` puts the task's number first; torchrun's line prefix (set by our scripts) says the rank.
_LINE = re.compile(r"^(?:(?P<task>\d+): )?(?:\[rank(?P<rank>\d+)\]: ?)?")
POLL_SECONDS = 0.5
NO_LOG_YET = "no log yet\n    remedy: --follow waits for it"


class LogFile:
    """Mixin of a backend whose runs write into a file that this machine sees, and whose scheduler is this machine's."""

    shares_files = True
    requeues = False
    labels_tasks = False

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        return [runs]

    def has_log(self, run: Run) -> bool:
        return Path(run.log).is_file()

    def log(
        self,
        run: Run,
        count: int | None,
        wanted: Callable[[str], bool],
        is_over: Callable[[], bool] | None,
        say: Callable[[str], None],
    ) -> Iterator[str]:
        """The last `count` wanted lines; with `is_over` what comes until then, too."""
        del say
        path, read = Path(run.log), 0
        if path.is_file():
            read = yield from tail(path, count, wanted, whole=is_over is not None)
        if is_over:
            yield from follow(path, read, wanted, is_over)

    def why_no_log(self, run: Run) -> str:
        del run
        return NO_LOG_YET

    def keep_log(self, run: Run, say: Callable[[str], None]) -> None:
        """The file stays anyway."""

    def pause(self, run: Run, seconds: float) -> None:
        """Nothing tells when such a run changes."""
        del run
        time.sleep(seconds)


def selector(rank: int | None, node: int | None, tasks_per_node: int | None) -> Callable[[str], bool]:
    """Which lines to show. `tasks_per_node`: given where each srun task is one rank (`launcher: direct`)."""

    def wanted(line: str) -> bool:
        match = _LINE.match(line)
        task = int(match["task"]) if match and match["task"] else None
        of_rank = int(match["rank"]) if match and match["rank"] else None
        if tasks_per_node:
            of_rank, of_node = task, None if task is None else task // tasks_per_node
        else:
            of_node = task
        return (rank is None or of_rank == rank) and (node is None or of_node == node)

    return wanted


def tail(
    path: Path, count: int | None, wanted: Callable[[str], bool], *, whole: bool = False
) -> Generator[str, None, int]:
    """The last `count` wanted lines, for None all of them as they are read; returns the byte to follow from.

    whole: leave out a last line that is still being written.
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


def follow(path: Path, start: int, wanted: Callable[[str], bool], is_over: Callable[[], bool]) -> Iterator[str]:
    """Whole lines from byte `start` on as they are written, until `is_over()`, and then what is left.

    The file may not exist yet.
    """
    rest = b""
    while True:
        over = is_over()  # asked before reading: what is written until then is read below
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
