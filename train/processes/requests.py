"""Requests to save, or to save and stop, from outside: a file in the output folder, or SIGTERM.

A batch shell's trap, a pod's launcher or `alignlaunch save` writes the file: unlike a signal it crosses any launcher
and any container, and no data loader worker dies of it. Before training there is nothing to save, and a request ends
the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from .. import finish
from ..errors import UserError
from .rendezvous import Rendezvous, is_in_slurm_step

#: The file with the request: `save RUN_ID` or `stop RUN_ID`. One with another run's id is an old one, and ignored. A
#: second line names the launcher that asked, because it was terminated.
REQUEST = ".request"
#: The file that says that a run stopped early, with a checkpoint to go on from: `STEP CHECKPOINT`.
STOPPED = ".stopped"

#: Seconds between two looks for the file before training begins. Afterwards each step's end is one.
_POLL_SECONDS = 1.0
#: The deepspeed launcher gets a SIGTERM that is for all processes a moment before its children, and sends another.
_PATIENCE_SECONDS = 2.0


class Request(IntEnum):
    """What is asked for. Of several requests the highest counts."""

    NONE = 0
    SAVE = 1
    STOP = 2


def write(output_dir: Path, request: Request, run_id: str, launcher: str = "") -> None:
    """Ask the run that trains into this folder. launcher: the one that asks, if one does. Raises OSError."""
    output_dir.mkdir(parents=True, exist_ok=True)  # the run may not have come so far
    _put(output_dir / REQUEST, f"{request.name.lower()} {run_id}\n" + (f"{launcher}\n" if launcher else ""))


def withdraw(output_dir: Path, launcher: str) -> None:
    """Remove what this launcher asked before it died, such as that of a pod which was replaced: the run goes on."""
    with suppress(OSError, UnicodeDecodeError):
        if (output_dir / REQUEST).read_text(encoding="utf-8").splitlines()[1:] == [launcher]:
            (output_dir / REQUEST).unlink()


def report_stopped(checkpoint: Path, step: int) -> None:
    """Tell the launcher that the run stopped early, with this checkpoint to go on from. Raises UserError."""
    try:
        _put(checkpoint.parent / STOPPED, f"{step} {checkpoint}\n")
    except OSError as error:
        raise UserError(f"{checkpoint.parent}: {error.strerror}. Make it writable.") from error


def _put(path: Path, text: str) -> None:
    """Write a file that nobody reads half."""
    aside = path.with_name(f"{path.name}-{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def read(output_dir: Path, run_id: str) -> Request:
    """What the file in the output folder asks of this run."""
    try:
        word, _, asked = (output_dir / REQUEST).read_text(encoding="utf-8").partition("\n")[0].partition(" ")
    except (OSError, UnicodeDecodeError):
        return Request.NONE
    return Request[word.upper()] if word in ("save", "stop") and asked == run_id else Request.NONE


def carried_out(output_dir: Path, request: Request, run_id: str) -> None:
    """Remove a request that was carried out, unless more is asked by now."""
    with suppress(FileNotFoundError):
        if read(output_dir, run_id) <= request:
            (output_dir / REQUEST).unlink()


def clear(output_dir: Path) -> None:
    """Remove what an earlier attempt of the run was asked, and what became of it."""
    for name in (REQUEST, STOPPED):
        (output_dir / name).unlink(missing_ok=True)


class Listener:
    """Receives this process's requests. Signals are the process's, so there is one: `listener`."""

    def __init__(self) -> None:
        self._terminated = threading.Event()
        self._training = False
        #: The output folder, where the file is looked for, and this process's place; None: not yet.
        self._watched: tuple[Path, Rendezvous] | None = None
        #: Held while one thread decides what a request leads to.
        self._lock = threading.Lock()

    def start(self) -> None:
        """Receive SIGTERM from now on. Call it in the main thread, before any other thread is started."""
        # Blocked in every thread, so that only this one gets it; with the sender, which a handler is not told.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.register_at_fork(after_in_child=self._in_child)
        threading.Thread(target=self._listen, name="requests", daemon=True).start()

    def watch(self, output_dir: Path, place: Rendezvous) -> None:
        """Look for the file, too, from now on: the first process of each node does, as nodes may not share folders.

        An old file is removed first; on Slurm the batch script did that, which may have written a new one since.
        """
        if place.rank == 0 and place.restart_count == 0 and not is_in_slurm_step(os.environ):
            with suppress(OSError):
                clear(output_dir)
        self._watched = output_dir, place

    def defer(self) -> None:
        """Training begins: from now on `asked` tells of requests, and the process goes on."""
        with self._lock:
            self._training = True

    def asked(self) -> Request:
        """What is asked of this process."""
        if self._terminated.is_set():
            return Request.STOP
        if self._watched is None:
            return Request.NONE
        output_dir, place = self._watched
        return read(output_dir, place.run_id) if place.local_rank == 0 else Request.NONE

    def _listen(self) -> None:
        while True:
            received = signal.sigtimedwait({signal.SIGTERM}, _POLL_SECONDS)
            with self._lock:
                # Python makes a result of nothing when SIGCONT interrupts the wait after its time is over.
                if received is None or received.si_signo != signal.SIGTERM:
                    if not self._training:
                        self._before_training()
                elif self._training and self._is_for_us(received.si_pid):
                    self._terminated.set()
                else:
                    finish.leave_now(128 + signal.SIGTERM)

    def _before_training(self) -> None:
        """Carry out a request: there is nothing to save yet."""
        request = self.asked()
        if request == Request.STOP:
            say("asked to stop before the first step: nothing is saved")
            finish.leave_now(finish.FAILED)
        if request == Request.SAVE and self._watched is not None:
            output_dir, place = self._watched
            carried_out(output_dir, request, place.run_id)

    def _is_for_us(self, sender: int) -> bool:
        """Whether a SIGTERM is a request to stop. A launcher sends its processes one when another of them has died."""
        dialect = self._watched[1].dialect if self._watched else None
        if dialect not in ("torchrun", "deepspeed") or sender != os.getppid() or self._terminated.is_set():
            return True
        if dialect == "torchrun":
            return False  # `alignlaunch.train.torchrun` does not pass a signal on, it writes the file
        other = signal.sigtimedwait({signal.SIGTERM}, _PATIENCE_SECONDS)
        return other is not None and other.si_pid != sender

    def _in_child(self) -> None:
        """Workers of data loaders are not ended before the checkpoint; those that prepare data are."""
        if not self._training:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


listener = Listener()


def say(message: str) -> None:
    """Print one line to the log, from any process."""
    print(f"alignlaunch: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the log
