"""What preflight has to say of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Exit codes: a retry may mend it; a retry meets the same again.
RETRY, NO_RETRY = 3, 2


class Finding(NamedTuple):
    """One thing that is wrong. It travels as a JSON list."""

    text: str  # place, value, rule
    remedy: str
    error: bool = True  # False: worth knowing, the run goes on
    retry: bool = False  # whether another attempt may well succeed

    def __str__(self) -> str:
        return f"{'error' if self.error else 'warning'}: {self.text}\n    remedy: {self.remedy}"


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without errors; NO_RETRY where one of them would come again."""
    errors = [finding for finding in findings if finding.error]
    if not errors:
        return 0
    return RETRY if all(finding.retry for finding in errors) else NO_RETRY


class FailedError(Exception):
    """This node cannot go on."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = list(findings)
