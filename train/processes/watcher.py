"""The process that watches a rank, `python -m alignlaunch.train.processes.watcher`; `beats` starts it.

It shares nothing with the rank but a page of memory, so that it sees a rank that is stopped, or that keeps the GIL.
While all goes well it writes nothing. When its rank is overdue, it makes the attempt's folder in OUTPUT_DIR/stacks; the
other watchers find it, and each puts a report of its rank there. The one that made it names the rank that is behind,
then all ranks are ended.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import hang
from .beats import DUMP, LEAVE, Beat
from .rendezvous import die_with_parent

#: Seconds between two looks at the rank's beat.
_POLL = 1.0
#: Seconds between two looks for a folder that another watcher made: few, as there may be thousands of watchers.
_LISTEN = 15.0
#: Seconds that the others have for their reports.
_COLLECT = 2 * _LISTEN
#: Seconds after which a rank is ended even if no more can be said, such as when the file system hangs, too.
_PATIENCE = 2 * _COLLECT
#: Seconds by which the rank that is behind ends before the others, so that the launcher names it as the first.
_LEAD = 5.0
#: The file that says which ranks are behind.
_BEHIND = "behind.txt"


@dataclass
class Watcher:
    """Watches process `pid`, which is rank `rank`."""

    pid: int
    memory: mmap.mmap
    stacks: int
    rank: int
    world_size: int
    output_dir: Path
    #: Set when another watcher has noticed a hang.
    called: threading.Event = field(default_factory=threading.Event)
    silent: float = 0.0
    beat: Beat = field(init=False)
    _is_hang: bool = True

    def run(self) -> None:
        """Watch, until the rank has ended."""
        threading.Thread(target=self._listen, daemon=True).start()
        self.beat = Beat.read(self.memory)
        while os.getppid() == self.pid:
            before = time.monotonic()
            time.sleep(_POLL)
            self._look(time.monotonic() - before)
            if self.silent > self.beat.limit or self.called.is_set():
                self._end()

    def _look(self, passed: float) -> None:
        """Add the time that has passed to the rank's silence, or begin anew.

        If this process itself did not run, then the job was suspended, or the machine: that is nobody's silence.
        """
        now = Beat.read(self.memory)
        suspended = passed > 5 * _POLL
        self.silent = 0.0 if suspended or now.pulse != self.beat.pulse else self.silent + passed
        self.beat = now

    @property
    def _folder(self) -> Path:
        # Before the ranks have agreed on a name, each reports for itself.
        return self.output_dir / hang.STACKS / (self.beat.attempt or f"start-{platform.node()}-{self.pid}")

    def _listen(self) -> None:
        while True:
            time.sleep(_LISTEN)
            with suppress(OSError):
                if Beat.read(self.memory).attempt and self._folder.is_dir():
                    self.called.set()

    def _end(self) -> None:
        """Report, and end the rank, unless the hang was none."""
        self._is_hang = True
        reporting = threading.Thread(target=self._report, daemon=True)
        reporting.start()
        reporting.join(_PATIENCE)
        if reporting.is_alive():
            say(f"hang: rank {self.rank} on {platform.node()} makes no progress, nor can {self._folder} be written to")
        if self._is_hang:
            self._leave()
        self.silent = 0.0
        self.called.clear()

    def _report(self) -> None:
        """Put the rank's report with the others, and wait until it is known which rank is behind."""
        report = self._of_rank()
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._folder.mkdir()
                leads = True
            except FileExistsError:
                leads = False
            report.write(self._folder)
            if leads:
                self._decide()
            else:
                self._await_decision()
        except OSError as error:
            say(f"{self._folder}: {error.strerror}: so the stacks are here\n{report.stacks}")
            say(hang.verdict([report], [self.rank], self.world_size, self._folder))

    def _decide(self) -> None:
        """Collect the reports, and say which rank is behind; put the folder aside if that one is not overdue."""
        # Other nodes may have other output folders, and before the ranks have agreed each has its own.
        alone = not self.beat.attempt
        awaited = [self.rank] if alone else list(range(self.world_size))
        deadline = time.monotonic() + _COLLECT
        while len(reports := hang.read(self._folder)) < len(awaited) and time.monotonic() < deadline:
            time.sleep(_POLL)
        ranks = hang.behind(reports, awaited if self.beat.shared else [])
        if self._goes_on() or not hang.are_overdue(ranks, reports):
            self._folder.rename(self._folder.with_name(f"{self._folder.name}-went-on-at-{int(time.time())}"))
            self._is_hang = False
            return
        say(hang.verdict(reports, ranks, self.world_size, self._folder))
        aside = self._folder / f".{_BEHIND}"
        aside.write_text("".join(f"{rank}\n" for rank in ranks), encoding="utf-8")
        aside.replace(self._folder / _BEHIND)
        self._give_way(ranks)

    def _goes_on(self) -> bool:
        return Beat.read(self.memory).pulse != self.beat.pulse

    def _await_decision(self) -> None:
        """Wait for the decision of the one that made the folder; it may also put it aside."""
        deadline = time.monotonic() + _COLLECT + _LEAD
        while time.monotonic() < deadline:
            if not self._folder.is_dir():
                self._is_hang = False
                return
            with suppress(FileNotFoundError):
                self._give_way([int(rank) for rank in (self._folder / _BEHIND).read_text(encoding="utf-8").split()])
                return
            time.sleep(_POLL)

    def _give_way(self, behind: list[int]) -> None:
        if self.rank not in behind:
            time.sleep(_LEAD)

    def _of_rank(self) -> hang.Report:
        beat, state = self.beat, self._state()
        return hang.Report(
            rank=self.rank,
            host=platform.node(),
            pid=self.pid,
            phase=beat.phase,
            step=beat.step,
            place=beat.place,
            seconds=round(self.silent),
            limit=round(beat.limit),
            state=state,
            waiting=beat.waiting,
            stacks="" if self._is_stopped() else self._dump(),
        )

    def _state(self) -> str:
        """The kernel's word for what the process does, such as `S (sleeping)`."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return next(line.partition(":")[2].strip() for line in status.splitlines() if line.startswith("State:"))

    def _is_stopped(self) -> bool:
        return self._state()[:1] in ("T", "t")

    def _dump(self, then: int = 0) -> str:
        """The stacks of all threads of the rank; empty if it does not answer. then: another signal for it."""
        begin, size = os.fstat(self.stacks).st_size, -1
        # To the main thread: of a stopped process another one might take it while the main thread goes on already.
        ctypes.CDLL(None).tgkill(self.pid, self.pid, DUMP)
        os.kill(self.pid, then)
        for _ in range(10):  # until it writes no more
            time.sleep(0.3)
            before, size = size, os.fstat(self.stacks).st_size
            if size == before > begin:
                break
        return os.pread(self.stacks, size - begin, begin).decode(errors="replace")

    def _leave(self) -> None:
        """End the rank, with a code of its own if it can. Its end is this process's, too."""
        if self._is_stopped():
            with suppress(OSError):
                report = self._of_rank()
                stacks = self._dump(then=signal.SIGCONT)  # a stopped process takes the signals when it goes on
                replace(report, stacks=stacks).write(self._folder)
        os.kill(self.pid, LEAVE)
        time.sleep(_LEAD)
        os.kill(self.pid, signal.SIGKILL)


def say(message: str) -> None:
    """Print to the rank's log."""
    print(f"alignlaunch: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the log


def main() -> None:
    """Watch the process that started this one."""
    pid, state, stacks, rank, world_size = map(int, sys.argv[1:6])
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are for the rank
    memory = mmap.mmap(state, mmap.PAGESIZE, prot=mmap.PROT_READ)
    Watcher(pid, memory, stacks, rank, world_size, Path(sys.argv[6])).run()


if __name__ == "__main__":
    main()
