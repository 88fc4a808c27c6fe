"""Preflight's findings, and the exit codes that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Exit codes: a retry may succeed; a retry would fail in the same way.
RETRY, NO_RETRY = 3, 2


class Finding(NamedTuple):
    """One thing that is wrong, with its remedy. It is sent as a JSON list."""

    text: str  # place, value, rule
    remedy: str
    error: bool = True  # False: a warning, the run continues
    retry: bool = False  # whether a retry may succeed

    def __str__(self) -> str:
        return f"{'error' if self.error else 'warning'}: {self.text}\n    remedy: {self.remedy}"


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without errors; RETRY if every error may be gone on a retry, else NO_RETRY."""
    errors = [finding for finding in findings if finding.error]
    if not errors:
        return 0
    return RETRY if all(finding.retry for finding in errors) else NO_RETRY


class FailedError(Exception):
    """Preflight failed on this node, for the reasons in `findings`."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = list(findings)
