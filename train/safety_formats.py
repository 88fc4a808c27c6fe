"""The shapes that a safe-DPO record may have: two responses to one prompt, ordered by helpfulness and by safety apart.

No torch here. Responses keep their places: what is said of them refers to response 0 (`response_a`) and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from alignlaunch.train.formats import FormatError, Record, Turns, answer, dialogue, optional_text, unknown

SAFETY_FORMATS = (
    "prompt, chosen_response, rejected_response, safety_labels: {chosen, rejected} of 1 or -1 (with or without "
    "dimension: helpful|harmless, category, system, history)",
    "PKU-SafeRLHF: prompt, response_0, response_1, better_response_id, safer_response_id, is_response_0_safe, "
    "is_response_1_safe",
)
Index = Literal[0, 1]
_HELPFUL = ("helpful", "helpfulness")
_HARMLESS = ("harmless", "harmlessness", "safety")


@dataclass(frozen=True, slots=True)
class SafePreference:
    """Two responses to one prompt and what is known of them; None: not judged.

    prompt, response_a, response_b: lists of messages, so that a chat template applies.
    better: the more helpful response. safer: the less harmful one. safe: whether each is harmless by itself.
    category: the kind of harm that the prompt invites.
    """

    prompt: Turns
    response_a: Turns
    response_b: Turns
    better: Index | None
    safer: Index | None
    safe: tuple[bool | None, bool | None]
    category: str | None


def safe_preference(record: Record) -> SafePreference:
    """Read one record in any of SAFETY_FORMATS. Raises FormatError for all else.

    In the first format `dimension` says what chosen and rejected were judged by; without it, by helpfulness.
    Where nobody judged which response is safer, a safe one is safer than an unsafe one.
    """
    if {"prompt", "chosen_response", "rejected_response", "safety_labels"} <= record.keys():
        columns = ("chosen_response", "rejected_response")
        better, safer = _judged_by(record)
        safe = _labels(record["safety_labels"])
        category = optional_text(record, "category") or None
    elif {"prompt", "response_0", "response_1"} <= record.keys():
        columns = ("response_0", "response_1")
        better, safer = _index(record, "better_response_id"), _index(record, "safer_response_id")
        safe = (_flag(record, "is_response_0_safe"), _flag(record, "is_response_1_safe"))
        category = optional_text(record, "category") or _harm(record)
    else:
        raise unknown(record, SAFETY_FORMATS)
    texts = [optional_text(record, column) for column in columns]
    if safer is None and None not in safe and safe[0] != safe[1]:
        safer = 0 if safe[0] else 1
    if better is None and safer is None and safe == (None, None):
        raise FormatError("nothing says which response is the better, the safer or a safe one")
    if texts[0] == texts[1]:
        raise FormatError(f"`{columns[0]}` and `{columns[1]}` are the same: there is nothing to prefer")
    first, second = (answer(text, column) for text, column in zip(texts, columns, strict=True))
    prompt = dialogue(record, optional_text(record, "prompt"))
    return SafePreference(prompt, first, second, better, safer, safe, category)


def _judged_by(record: Record) -> tuple[Index | None, Index | None]:
    dimension = optional_text(record, "dimension").lower() or _HELPFUL[0]
    if dimension in _HELPFUL:
        return 0, None
    if dimension in _HARMLESS:
        return None, 0
    raise FormatError(f"`dimension` is {record['dimension']!r}; known are {', '.join((*_HELPFUL, *_HARMLESS))}")


def _labels(value: Any) -> tuple[bool | None, bool | None]:
    if not isinstance(value, dict) or not {"chosen", "rejected"} <= value.keys():
        raise FormatError("`safety_labels` must be {chosen: 1 or -1, rejected: 1 or -1}")
    for side in ("chosen", "rejected"):
        if value[side] not in (1, -1, None) or isinstance(value[side], bool):
            raise FormatError(f"`safety_labels.{side}` is {value[side]!r}; 1 (safe) or -1 (unsafe) is due")
    chosen, rejected = (None if value[side] is None else value[side] == 1 for side in ("chosen", "rejected"))
    return chosen, rejected


def _index(record: Record, column: str) -> Index | None:
    value = record.get(column)
    if value is None:
        return None
    if value not in (0, 1) or isinstance(value, bool):
        raise FormatError(f"`{column}` is {value!r}; 0 or 1 is due")
    return 0 if value == 0 else 1


def _flag(record: Record, column: str) -> bool | None:
    value = record.get(column)
    if value is not None and not isinstance(value, bool):
        raise FormatError(f"`{column}` is {value!r}; true or false is due")
    return value


def _harm(record: Record) -> str | None:
    """The first kind of harm that either response does, in the data's order."""
    harms = [record.get(f"response_{i}_harm_category") or {} for i in (0, 1)]
    if not all(isinstance(harm, dict) for harm in harms):
        raise FormatError("`response_0_harm_category` and `response_1_harm_category` must be maps of true and false")
    return next((kind for kind in {**harms[0], **harms[1]} if any(harm.get(kind) for harm in harms)), None)
