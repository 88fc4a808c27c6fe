"""Signs of life of this process, which `watcher` reads: in which phase it is, at which step, and when it is overdue.

They lie in memory that the two processes share, so that a beat costs no system call and no file. A beat's place in the
count of all beats is comparable between ranks, which do the same in the same order: the rank with the lowest is behind.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from struct import Struct
from typing import NamedTuple

from .. import finish
from .rendezvous import Rendezvous

#: Shortest deadline in seconds that is learned.
FLOOR = 300.0
#: A deadline is this many times the median of the last `_REMEMBERED` turns, once `_ENOUGH` are known.
_TIMES, _REMEMBERED, _ENOUGH = 10, 50, 3
#: Deadline for the first turns, which compile and open connections.
FIRST = 1800.0
#: Deadline for what has no turns: loading, reading data, saving. It bounds what passes between two beats.
LONG = 7200.0
#: Deadline for waiting until other ranks have done their part: these are watched themselves.
WAITING = 24 * 3600.0

#: Names of phases that `outputs.goodput` tells from others.
START, TRAINING, EVALUATION = "start", "training", "evaluation"

#: With these real-time signals the watcher has the process dump its stacks, and leave. Both handlers are C functions,
#: which need no GIL. The second is `_exit` itself, so that the signal's number is the exit code.
DUMP, LEAVE = 45, finish.HUNG

_LAYOUT = Struct("<QQdq??40s40s")


class Beat(NamedTuple):
    """What the watcher reads.

    pulse: changes with every sign of life. place: the count of beats that all ranks have in common. limit: seconds
    after which this beat is overdue. waiting: for other ranks. shared: whether all ranks see the same output folder.
    attempt: its name, the same on all ranks; empty until they have agreed on it.
    """

    pulse: int
    place: int
    limit: float
    step: int
    waiting: bool
    shared: bool
    phase: str
    attempt: str

    @classmethod
    def read(cls, memory: bytes | mmap.mmap) -> Beat:
        """The last beat in the shared memory."""
        *numbers, phase, attempt = _LAYOUT.unpack_from(memory)
        return cls(*numbers, *(text.rstrip(b"\0").decode(errors="replace") for text in (phase, attempt)))

    def write(self, memory: bytearray | mmap.mmap) -> None:
        """Make this the last beat."""
        *numbers, phase, attempt = self
        _LAYOUT.pack_into(memory, 0, *numbers, str(phase).encode(), str(attempt).encode())


class Beats:
    """The beats of this process; until `start` nobody reads them. Call it from the main thread only."""

    def __init__(self) -> None:
        self._memory: bytearray | mmap.mmap = bytearray(_LAYOUT.size)
        self._beat = Beat(0, 0, LONG, 0, False, False, START, "")
        self._fixed: float | None = None
        #: Seconds of each phase's last turns, by the phase's name.
        self._turns: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._turn_began = time.monotonic()
        self._observe: Callable[[str, int], None] | None = None

    @property
    def step(self) -> int:
        """The last step that has ended."""
        return self._beat.step

    def observe(self, observer: Callable[[str, int], None]) -> None:
        """Have this function told each phase that begins, or goes on after one within it, and the step so far."""
        self._observe = observer

    def start(self, place: Rendezvous, output_dir: Path, timeout: int | None) -> None:
        """Have a process of its own watch this one.

        timeout: seconds that a step or a batch of an evaluation may take; 0: nothing is watched; None: learned.
        """
        if timeout == 0:
            return
        self._fixed = timeout
        state, stacks = os.memfd_create("beats"), os.memfd_create("stacks")
        os.truncate(state, mmap.PAGESIZE)
        self._memory = mmap.mmap(state, mmap.PAGESIZE)
        self._write()
        faulthandler.register(DUMP, stacks, all_threads=True)
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal(LEAVE, ctypes.cast(libc._exit, ctypes.c_void_p))
        arguments = [os.getpid(), state, stacks, place.rank, place.world_size, output_dir.absolute()]
        # A process, because a thread of this one would need the GIL, and would stop with it.
        subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.watcher", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            pass_fds=(state, stacks),
        )
        os.close(state)

    def agreed(self, attempt: str, *, shared: bool) -> None:
        """The attempt's name, the same on all ranks and of no other attempt: their stacks go into one folder.

        shared: whether all ranks see the same output folder.
        """
        self._write(attempt=attempt, shared=shared)

    def alive(self) -> None:
        """Something that this rank alone does has got on."""
        self._write()

    def beat(self) -> None:
        """This rank has come to a place to which all come."""
        self._write(place=self._beat.place + 1)

    def begin(self, phase: str, limit: float = LONG, *, step: int | None = None) -> None:
        """From here to the next `begin` this rank is in this phase. limit: seconds between two beats."""
        self._turn_began = time.monotonic()
        step = self._beat.step if step is None else step
        self._enter(phase=phase, limit=self._limit(phase, limit), step=step)

    @contextmanager
    def within(self, phase: str, limit: float = LONG) -> Iterator[None]:
        """A phase in the midst of another, of whose turn it is no part."""
        outer, began = self._beat, time.monotonic()
        turn_began = self._turn_began
        self.begin(phase, limit)
        try:
            yield
        finally:
            self._turn_began = turn_began + time.monotonic() - began
            self._enter(phase=outer.phase, limit=outer.limit)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for other ranks, however long they work: they are watched themselves."""
        outer = self._beat
        self._write(waiting=True, limit=WAITING)
        try:
            yield
        finally:
            self._write(waiting=outer.waiting, limit=outer.limit)

    def turn(self, step: int | None = None) -> None:
        """The phase does the same again and again, and has done it once more. From this its deadline is learned."""
        now, phase = time.monotonic(), self._beat.phase
        self._turns[phase].append(now - self._turn_began)
        self._turn_began = now
        limit = self._limit(phase, self._beat.limit)
        self._write(place=self._beat.place + 1, limit=limit, step=self._beat.step if step is None else step)

    def _limit(self, phase: str, unlearned: float) -> float:
        turns = self._turns.get(phase, ())
        if len(turns) < _ENOUGH:
            return max(unlearned, self._fixed or 0)
        return self._fixed or max(FLOOR, _TIMES * median(turns))

    def _enter(self, **phase: object) -> None:
        self._write(place=self._beat.place + 1, **phase)
        if self._observe:
            self._observe(self._beat.phase, self._beat.step)

    def _write(self, **changes: object) -> None:
        self._beat = self._beat._replace(pulse=self._beat.pulse + 1, **changes)  # type: ignore[arg-type]
        self._beat.write(self._memory)


beats = Beats()
