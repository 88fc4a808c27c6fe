"""The table of known faults, `patterns.toml`, ready for use."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pattern:
    """One entry. symptom: what ranks see of a fault elsewhere, or what does not end a run by itself."""

    index: int  # in the table
    name: str
    regex: re.Pattern[str]
    cause: str
    remedy: str
    symptom: bool


def _load() -> list[Pattern]:
    table = tomllib.loads(Path(__file__).with_name("patterns.toml").read_text(encoding="utf-8"))
    return [
        Pattern(
            index,
            name,
            re.compile("|".join(f"(?:{line})" for line in entry["lines"])),
            entry["cause"],
            entry["remedy"],
            entry.get("symptom", False),
        )
        for index, (name, entry) in enumerate(table.items())
    ]


PATTERNS = _load()
