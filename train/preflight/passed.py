"""The mark that a run of pods has passed: one that comes back alone finds its peers past preflight."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def _mark(output_dir: str) -> Path | None:
    """Of this run of pods; None elsewhere, where nodes do not come back alone."""
    run_id = os.environ.get("ALIGNLAUNCH_RUN_ID")
    return Path(output_dir) / f".preflight-passed-{run_id}" if run_id else None


def is_marked(output_dir: str) -> bool:
    mark = _mark(output_dir)
    return mark is not None and os.path.exists(mark)  # noqa: PTH110 - Path.exists raises where a folder is closed


def set_mark(output_dir: str) -> None:
    """Without a right to write there, which preflight itself tells, a pod that comes back just waits longer."""
    if mark := _mark(output_dir):
        with suppress(OSError):
            mark.touch()


def remove_mark(output_dir: str) -> None:
    """When the run has ended: the same manifest, applied again, starts anew."""
    if mark := _mark(output_dir):
        with suppress(OSError):
            mark.unlink()
