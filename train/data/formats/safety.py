"""The formats of safe-DPO records: two responses to one prompt, compared separately by helpfulness and by safety.

No torch here. The responses keep their order: labels refer to response 0 (`response_a`) and 1 (`response_b`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from . import reading
from .fields import SYSTEM, dialogue, optional_text
from .preferences import pair, safety
from .reading import Format, Reader
from .turns import FormatError, Record, Tools, Turns, turns

Index = Literal[0, 1]
_HELPFUL = ("helpful", "helpfulness")
_HARMLESS = ("harmless", "harmlessness", "safety")


@dataclass(frozen=True, slots=True)
class SafePreference:
    """Two responses to one prompt and their labels; None: not judged.

    prompt, response_a, response_b: lists of messages, so that a chat template applies.
    better: index of the more helpful response. safer: index of the less harmful one. safe: whether each response is
    harmless by itself. category: the kind of harm that the prompt invites.
    """

    prompt: Turns
    response_a: Turns
    response_b: Turns
    better: Index | None
    safer: Index | None
    safe: tuple[bool | None, bool | None]
    category: str | None
    tools: Tools = field(default_factory=list)

    def parts(self) -> list[Turns]:
        """All turns, in their order."""
        return [self.prompt, self.response_a, self.response_b]

    def given(self) -> list[Any]:
        """The texts of the prompt."""
        return [turn["content"] for turn in self.prompt if isinstance(turn, dict)]


@dataclass(frozen=True, slots=True)
class _Judged:
    """The labels of responses 0 and 1, as in SafePreference."""

    better: Index | None
    safer: Index | None
    safe: tuple[bool | None, bool | None]
    category: str | None


def _reader(names: tuple[str, str], judge: Callable[[Record], _Judged]) -> Reader[SafePreference]:
    def read(record: Record) -> SafePreference:
        labels = judge(record)
        safer = labels.safer
        if safer is None and None not in labels.safe and labels.safe[0] != labels.safe[1]:
            safer = 0 if labels.safe[0] else 1
        if labels.better is None and safer is None and labels.safe == (None, None):
            raise FormatError("no label says which response is the better, the safer or a safe one")
        prompt = turns(record["prompt"], "prompt")
        if isinstance(prompt, str):
            prompt = dialogue(record, prompt)
        elif record.get("history"):
            raise FormatError("`history` beside a `prompt` of several turns: which comes first?")
        found = pair(record, prompt, names)
        both = found.prompt, found.chosen, found.rejected
        return SafePreference(*both, labels.better, safer, labels.safe, labels.category, found.tools)

    return read


def _chosen(record: Record) -> _Judged:
    better, safer = _judged_by(record)
    return _Judged(better, safer, safety(record), optional_text(record, "category") or None)


def _numbered(record: Record) -> _Judged:
    return _Judged(
        _index(record, "better_response_id"),
        _index(record, "safer_response_id"),
        (_flag(record, "is_response_0_safe"), _flag(record, "is_response_1_safe")),
        optional_text(record, "category") or _harm(record),
    )


_BESIDE = ("category", *SYSTEM, "history", "tools")
_CHOICE = ("chosen_response", "rejected_response")
_RESPONSES = ("response_0", "response_1")
SAFETY_FORMATS = (
    Format(
        ("prompt", *_CHOICE, "safety_labels"),
        ("dimension", *_BESIDE),
        _reader(_CHOICE, _chosen),
        "{chosen, rejected} of 1 or -1; dimension: helpful|harmless",
    ),
    Format(
        ("prompt", *_RESPONSES),
        (
            *("better_response_id", "safer_response_id", "is_response_0_safe", "is_response_1_safe"),
            *("response_0_harm_category", "response_1_harm_category", *_BESIDE),
        ),
        _reader(_RESPONSES, _numbered),
        "PKU-SafeRLHF: with better_response_id, safer_response_id, is_response_0_safe, is_response_1_safe",
    ),
)


def safe_preference(record: Record) -> SafePreference:
    """Read one record in any of SAFETY_FORMATS. Raises FormatError if none fits.

    In the first format `dimension` names the criterion by which one response was chosen; the default is helpfulness.
    Where a record does not say which response is safer, a safe one counts as safer than an unsafe one.
    """
    return reading.read(record, SAFETY_FORMATS)


def _judged_by(record: Record) -> tuple[Index | None, Index | None]:
    dimension = optional_text(record, "dimension").lower() or _HELPFUL[0]
    if dimension in _HELPFUL:
        return 0, None
    if dimension in _HARMLESS:
        return None, 0
    raise FormatError(f"`dimension` is {record['dimension']!r}; known are {', '.join((*_HELPFUL, *_HARMLESS))}")


def _index(record: Record, column: str) -> Index | None:
    value = record.get(column)
    if value is None:
        return None
    if value not in (0, 1) or isinstance(value, bool):
        raise FormatError(f"`{column}` is {value!r}; expected 0 or 1")
    return 0 if value == 0 else 1


def _flag(record: Record, column: str) -> bool | None:
    value = record.get(column)
    if value is not None and not isinstance(value, bool):
        raise FormatError(f"`{column}` is {value!r}; expected true or false")
    return value


def _harm(record: Record) -> str | None:
    """The first kind of harm that is true of either response, in the data's order."""
    harms = [record.get(f"response_{i}_harm_category") or {} for i in (0, 1)]
    if not all(isinstance(harm, dict) for harm in harms):
        raise FormatError("`response_0_harm_category` and `response_1_harm_category` must be maps of true and false")
    return next((kind for kind in {**harms[0], **harms[1]} if any(harm.get(kind) for harm in harms)), None)
