"""Texts about a run for the user."""

from __future__ import annotations

from ..runs.records import Run


def describe(run: Run) -> str:
    status = run.status
    code = f" exit code {status.exit_code}" if status.exit_code is not None and status.is_final else ""
    reason = f" ({status.reason})" if status.reason else ""
    nodes = f" on {status.nodes}" if status.nodes else ""
    return f"{run.handle} {run.name}: {status.state}{code}{nodes}{reason}"


def result(run: Run, *, preflight_only: bool) -> str:
    """The result of a run that succeeded."""
    return "the nodes agree; nothing was trained" if preflight_only else f"result: {run.output_dir}"
