"""The one error that is shown to the user as a sentence instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Bad configuration, data or environment: exit 2 with this message (place, value, rule, remedy).

    everywhere: every rank raises the same error, so that only rank 0 prints it.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Interrupted(Exception):  # noqa: N818 - not an error
    """Training, or an evaluation, was left on request; the next attempt goes on from the last checkpoint."""
