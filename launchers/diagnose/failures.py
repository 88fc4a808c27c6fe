"""How processes ended, as their launchers report it: torchelastic's summary, its error files, srun."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

_FIELD = re.compile(r"  (time|host|rank|exitcode|error_file|traceback) *: ?(.*)")
_RULE = re.compile(r"=+|-+|\[\d+\]:|Root Cause \(first observed failure\):")
_SRUN = re.compile(r"srun: error: (?P<host>\S+): tasks? (?P<tasks>[\d,-]+): (?P<how>.+)")
_TERMINATED = 128 + signal.SIGTERM
_ENDED = ("Terminated", f"Exited with exit code {_TERMINATED}")
_MOST_LINES = 80
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Failure:
    """A process that failed. time: ISO 8601, "" if unknown. code: as subprocess has it, -N for signal N."""

    rank: int | None
    where: str
    time: str = ""
    code: int | None = None
    how: str = ""
    traceback: list[str] = field(default_factory=list)

    @property
    def was_ended(self) -> bool:
        """Whether its launcher or the scheduler ended it, with SIGTERM."""
        return self.code in (-signal.SIGTERM, _TERMINATED) or self.how in _ENDED

    @property
    def shown(self) -> str:
        """How it ended, for people."""
        if self.code is None:
            return self.how or "an exception"
        name = ""
        with suppress(ValueError):
            name = f" ({signal.Signals(-self.code).name})" if self.code < 0 else ""
        return f"exit code {self.code}{name}"


class Summary:
    """Parser of the "FAILED ... Root Cause" block that one torchelastic agent logs. writer: the agent's node or pod."""

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._fields: dict[str, str] = {}
        self._traceback: list[str] = []

    def feed(self, text: str) -> Failure | None:
        """Take the next line. Returns the failure whose record it ends, if any."""
        if match := _FIELD.fullmatch(text):
            self._fields[match[1]] = match[2]
        elif _RULE.fullmatch(text):
            return self.close()
        elif "traceback" in self._fields and len(self._traceback) < _MOST_LINES:
            self._traceback.append(text.removeprefix("  "))
        return None

    def close(self) -> Failure | None:
        """End the current record. Returns its failure, None if it is incomplete."""
        fields, lines = self._fields, self._traceback
        self._fields, self._traceback = {}, []
        rank, code = re.match(r"\d{1,6}", fields.get("rank", "")), re.match(r"-?\d{1,4}", fields.get("exitcode", ""))
        if not rank or not code:
            return None
        traceback = [
            line for line in (fields.get("traceback", ""), *lines) if line and "elastic/errors.html" not in line
        ]
        if len(traceback) == 1 and traceback[0].startswith("Signal "):
            traceback = []
        host = fields.get("host", "")
        # torchrun may know a node only as localhost: the writer of the summary tells more.
        where = self._writer if host.startswith("localhost") else host
        time = fields.get("time", "").strip().replace("_", "T")
        return Failure(int(rank[0]), where, time, int(code[0]), traceback=traceback)


def of_srun(text: str) -> Failure | None:
    """A failed task, from a line of srun. A task is a node's launcher, or with `launcher: direct` a rank."""
    match = _SRUN.match(text)
    return Failure(None, f"task {match['tasks']} on {match['host']}", how=match["how"]) if match else None


def of_error_file(path: Path, rank: int | None, where: str) -> Failure | None:
    """The failure in the error file of a process (TORCHELASTIC_ERROR_FILE); None for any other file. Raises OSError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        message = json.loads(path.read_bytes())["message"]
        extra = message["extraInfo"]
        time = datetime.fromtimestamp(int(extra["timestamp"])).astimezone().replace(tzinfo=None).isoformat()
        lines = [line for line in str(extra["py_callstack"]).splitlines() if line] or [str(message["message"])]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return Failure(rank, where, time, traceback=lines[-_MOST_LINES:])


def first(failures: list[Failure], followers: set[int]) -> Failure | None:
    """The earliest failure, without those of processes that their launcher or the scheduler ended.

    Of equal times, the one reported first. followers: ranks that report a lost peer. Their failures come last, since
    the peer's own failure may be noticed later.
    """
    own = [one for one in failures if not one.was_ended]
    return min(own, key=lambda one: (one.rank in followers, not one.time, one.time), default=None)
