"""The table of known faults, `patterns.toml`, ready for use."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Pattern:
    """One entry. symptom: what ranks see of a fault elsewhere, or what does not end a run by itself.

    remedies: by place to run; "" for places that have none of their own.
    """

    index: int  # in the table
    name: str
    regex: re.Pattern[str]
    cause: str
    remedies: dict[str, str]
    symptom: bool


def _load() -> tuple[list[str], list[Pattern]]:
    table = tomllib.loads(Path(__file__).with_name("patterns.toml").read_text(encoding="utf-8"))
    words = [word.replace("_", " ") for word in table.pop("words").split()]
    return words, [
        Pattern(
            index,
            name,
            re.compile("|".join(f"(?:{line})" for line in entry["lines"])),
            entry["cause"],
            {key.removeprefix("remedy").lstrip("_"): text for key, text in entry.items() if key.startswith("remedy")},
            entry.get("symptom", False),
        )
        for index, (name, entry) in enumerate(table.items())
    ]


WORDS, PATTERNS = _load()


def is_telling(text: str) -> bool:
    """Whether any entry may know a line."""
    text = text.lower()
    return any(word in text for word in WORDS)


@lru_cache(maxsize=4096)  # ranks say the same
def matches(text: str) -> list[tuple[Pattern, re.Match[str]]]:
    """The entries that know a telling line, in the order of the table."""
    found = ((pattern, pattern.regex.search(text)) for pattern in PATTERNS)
    return [(pattern, match) for pattern, match in found if match]
