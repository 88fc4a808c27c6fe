"""A line of metrics.jsonl, the file with a run's records."""

from __future__ import annotations

import json
from typing import Any


def record(line: str | bytes) -> dict[str, Any]:
    """One line of metrics.jsonl; empty if it is not a JSON object, such as lines that two writers have mixed."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
