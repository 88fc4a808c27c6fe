"""Errors of the submitting side, each with its exit code. The CLI prints the message, never a traceback."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

#: Control characters but line end and tab, and surrogates, which no stream can encode.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class LaunchError(Exception):
    """The job or a check failed (exit 1)."""

    exit_code = 1


class UsageError(LaunchError):
    """A bad command line, job file or folder (exit 2)."""

    exit_code = 2


class SchedulerError(LaunchError):
    """The scheduler could not be reached, or refused the request (exit 3)."""

    exit_code = 3


class LostJobError(SchedulerError):
    """The scheduler may have accepted the job, but its answer with the job's id was lost: the job may be running."""


class Problem(NamedTuple):
    """One broken rule of a job file or cluster profile."""

    place: str  # "job.yaml:3:7", or "--set nnodes=0"
    key: str  # dotted: "train.learning_rate"
    value: Any
    rule: str
    remedy: str

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {shorten(self.value)}"
        key = f"{self.key}{shown}: " if self.key else ""
        return f"{self.place}: {key}{self.rule}\n    remedy: {self.remedy}"


class JobFileError(UsageError):
    """All problems of a job file in one error, in the order of its lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([*map(str, problems), f"{count}; nothing was written or submitted"]))


def shorten(value: Any, limit: int = 80) -> str:
    """`repr(value)`, cut to `limit` characters so that a huge value cannot flood a terminal."""
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str) -> str:
    """The text with control characters escaped, but for line ends and tabs.

    What others wrote (a job file in git, a shared file, a scheduler's answer) must not rewrite the reader's terminal.
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
