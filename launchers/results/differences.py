"""What differs between the jobs of several runs, by dotted key: the columns of a comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..job.differences import flat
from .gather import Result

#: Every run has its own.
_OWN = ("name", "output_dir")


def by_key(results: Sequence[Result]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The keys whose values differ, with the value of every run as text ("" where it is not there), and the others.

    A run whose job is not known differs in nothing.
    """
    jobs = [{key: _text(value) for key, value in flat(one.job)} for one in results]
    names = list(dict.fromkeys(name for job in jobs for name in job if name not in _OWN))
    different: dict[str, list[str]] = {}
    same: dict[str, str] = {}
    for name in names:
        values = [job.get(name, "") for job in jobs]
        known = {value for job, value in zip(jobs, values, strict=True) if job}
        if len(known) > 1:
            different[name] = values
        else:
            same[name] = known.pop()
    return different, same


def _text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
