"""Loads the table of known faults, `patterns.toml`, and looks lines up in it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path


class Retry(Enum):
    """Whether another attempt may do better than one that ended for some reason."""

    AGAIN = "again"
    ELSEWHERE = "elsewhere"
    NEVER = "never"


@dataclass(frozen=True)
class Pattern:
    """One entry. symptom: it is only what a rank sees of a fault elsewhere, or does not end a run by itself.

    remedies: scheme of the place to run → remedy; "" for all other places.
    """

    index: int  # in the table
    name: str
    regex: re.Pattern[str]
    cause: str
    remedies: dict[str, str]
    symptom: bool
    retry: Retry


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
            Retry(entry["retry"]),
        )
        for index, (name, entry) in enumerate(table.items())
    ]


WORDS, PATTERNS = _load()


def may_match(text: str) -> bool:
    """A quick filter: False for a line that no entry can match."""
    text = text.lower()
    return any(word in text for word in WORDS)


@lru_cache(maxsize=4096)  # many ranks log the same line
def matches(text: str) -> list[tuple[Pattern, re.Match[str]]]:
    """The entries that match a line for which `may_match` is true, in the order of the table."""
    found = ((pattern, pattern.regex.search(text)) for pattern in PATTERNS)
    return [(pattern, match) for pattern, match in found if match]
