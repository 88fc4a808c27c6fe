"""A run's records: which metrics.jsonl is its own, and what a line of it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alignlaunch.train import trained_folder
from alignlaunch.train.outputs import checkpoints

from ..backends import registry
from ..runs.records import Run


def path(run: Run) -> Path | None:
    """The records of this run; None if the output folder is not seen from here, or is another run's by now."""
    if not run.output_dir or not run.run_dir or not registry.of(run.scheme).shares_files:
        return None
    folder = Path(run.output_dir)
    return folder / trained_folder.METRICS if checkpoints.owner(folder) == run.run_dir else None


def record(line: str | bytes) -> dict[str, Any]:
    """One line of metrics.jsonl; empty if it is not a JSON object, such as lines that two writers have mixed."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
