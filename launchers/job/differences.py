"""What changed between two jobs, in the job's own words: `train.learning_rate: 2e-05 → 1e-05`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_ABSENT = object()


def between(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each key whose value differs. before, after: resolved jobs."""
    return list(_changes("", before, after))


def flat(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each leaf of nested maps; an empty map is one."""
    for name, inner in value.items():
        key = f"{above}{name}"
        if isinstance(inner, dict) and inner:
            yield from flat(inner, f"{key}.")
        else:
            yield key, inner


def _changes(key: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from _changes(inner, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif before != after:
        yield f"{key}: {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    return "not there" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
