"""A mark file for runs on Kubernetes that have passed: a pod that is replaced alone finds its peers past preflight."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def _mark(output_dir: str) -> Path | None:
    """The mark file of this run; None outside Kubernetes, where nodes do not restart alone."""
    run_id = os.environ.get("ALIGNLAUNCH_RUN_ID")
    return Path(output_dir) / f".preflight-passed-{run_id}" if run_id else None


def is_marked(output_dir: str) -> bool:
    """Whether this run has passed preflight before."""
    mark = _mark(output_dir)
    return mark is not None and os.path.exists(mark)  # noqa: PTH110 - Path.exists raises without permission


def set_mark(output_dir: str) -> None:
    """Set the mark. If that fails (preflight itself reports an unwritable folder), a replaced pod only waits longer."""
    if mark := _mark(output_dir):
        with suppress(OSError):
            mark.touch()


def remove_mark(output_dir: str) -> None:
    """Remove the mark when the run has ended, so that the same manifest, applied again, starts anew."""
    if mark := _mark(output_dir):
        with suppress(OSError):
            mark.unlink()
