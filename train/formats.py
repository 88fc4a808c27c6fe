"""The shapes that a record of data may have, turned into one shape a stage. No torch here.

Text stays text: a chat template is applied later, and only where the record is a conversation.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Record = dict[str, Any]
#: A conversation (list of role/content messages) or plain text.
Turns = list[Message] | str

TEXT_FORMATS = ("text",)
SFT_FORMATS = (
    "conversations: [{from: system|human|gpt, value}] (with or without system_prompt)",
    "messages: [{role, content}]",
    "prompt, completion (both text, or both lists of messages)",
    "instruction, output (with or without input, system, history)",
)
PREFERENCE_FORMATS = (
    "question, response_chosen, response_rejected (with or without system, history: [[q, a], ...])",
    "prompt, chosen, rejected (all text, or all lists of messages)",
    "chosen, rejected (the common beginning is the prompt)",
)
_ROLES = ("system", "developer", "user", "assistant", "tool")
_SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


class FormatError(ValueError):
    """A record that cannot be read; the message says which rule it breaks."""


@dataclass(frozen=True, slots=True)
class Example:
    """For SFT: what is given and what is learnt (in a conversation: its assistant turns)."""

    prompt: Turns
    completion: Turns


@dataclass(frozen=True, slots=True)
class Preference:
    """For preference training: two answers to one prompt.

    margin: by how much the chosen answer is the better one, on the scale of whoever judged; None where nobody did.
    """

    prompt: Turns
    chosen: Turns
    rejected: Turns
    margin: float | None = None


def text(record: Record) -> str:
    """Read one pretraining record: `text`."""
    if "text" not in record:
        raise unknown(record, TEXT_FORMATS)
    if not (found := optional_text(record, "text")).strip():
        raise FormatError("`text` is empty: there is nothing to learn")
    return found


def example(record: Record) -> Example:
    """Read one SFT record in any of SFT_FORMATS."""
    if "conversations" in record:
        return Example([], _answered(_sharegpt(record), "conversations"))
    if "messages" in record:
        return Example([], _answered(_messages(record["messages"], "messages"), "messages"))
    if {"prompt", "completion"} <= record.keys():
        prompt, completion = _turns(record["prompt"], "prompt"), _turns(record["completion"], "completion")
        _same_kind(prompt=prompt, completion=completion)
        return Example(prompt, _answered(completion, "completion"))
    if {"instruction", "output"} <= record.keys():
        instruction, extra = optional_text(record, "instruction"), optional_text(record, "input")
        question = f"{instruction}\n{extra}" if extra else instruction
        return Example(dialogue(record, question), answer(record["output"], "output"))
    raise unknown(record, SFT_FORMATS)


def preference(record: Record) -> Preference:
    """Read one preference record in any of PREFERENCE_FORMATS, with or without `margin` (a number)."""
    if {"question", "response_chosen", "response_rejected"} <= record.keys():
        _differ(record, "response_chosen", "response_rejected")
        return Preference(
            dialogue(record, optional_text(record, "question")),
            answer(record["response_chosen"], "response_chosen"),
            answer(record["response_rejected"], "response_rejected"),
            _margin(record),
        )
    if not {"chosen", "rejected"} <= record.keys():
        raise unknown(record, PREFERENCE_FORMATS)
    _differ(record, "chosen", "rejected")
    chosen, rejected = _turns(record["chosen"], "chosen"), _turns(record["rejected"], "rejected")
    if record.get("prompt") is not None:
        prompt = _turns(record["prompt"], "prompt")
        if isinstance(prompt, str) and isinstance(chosen, list):  # UltraFeedback: the prompt once more, as text
            prompt, chosen, rejected = _split_common(chosen, rejected)
        elif isinstance(prompt, list) and isinstance(chosen, str) and isinstance(rejected, str):
            chosen, rejected = answer(chosen, "chosen"), answer(rejected, "rejected")
    else:
        prompt, chosen, rejected = _split_common(chosen, rejected)
    _same_kind(prompt=prompt, chosen=chosen, rejected=rejected)
    return Preference(prompt, _answered(chosen, "chosen"), _answered(rejected, "rejected"), _margin(record))


def shared_length(a: Turns, b: Turns) -> int:
    """How many first characters (or messages) two texts (or conversations) share."""
    differing = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def _split_common(chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    _same_kind(chosen=chosen, rejected=rejected)
    size = shared_length(chosen, rejected)
    if size and isinstance(chosen, str) and chosen[size - 1] == " ":  # it belongs to the word after it, as in TRL
        size -= 1
    if not chosen[size:] or not rejected[size:]:
        raise FormatError("one of `chosen` and `rejected` is the beginning of the other: no answer follows the prompt")
    return chosen[:size], chosen[size:], rejected[size:]


def _sharegpt(record: Record) -> list[Message]:
    turns = record["conversations"]
    if not isinstance(turns, list) or not all(isinstance(t, dict) and {"from", "value"} <= t.keys() for t in turns):
        raise FormatError("`conversations` must be a list of {from, value}")
    messages = []
    for turn in turns:
        if str(turn["from"]) not in _SPEAKERS:
            raise FormatError(f"`conversations` has from: {turn['from']!r}; known are {', '.join(_SPEAKERS)}")
        messages.append(message(_SPEAKERS[turn["from"]], turn["value"]))
    system = optional_text(record, "system_prompt")
    if system and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, message("system", system))
    return messages


def dialogue(record: Record, question: str) -> list[Message]:
    """System, history and question of the documents' formats as messages."""
    if not question.strip():
        raise FormatError("the question is empty: there is nothing to answer")
    system = optional_text(record, "system")
    messages = [message("system", system)] if system else []
    history = record.get("history") or []
    pair_size = 2
    if not isinstance(history, list) or not all(isinstance(p, (list, tuple)) and len(p) == pair_size for p in history):
        raise FormatError("`history` must be a list of [question, answer] pairs")
    for asked, answered in history:
        messages += [message("user", asked), message("assistant", answered)]
    return [*messages, message("user", question)]


def _turns(value: Any, column: str) -> Turns:
    return value if isinstance(value, str) else _messages(value, column)


def _messages(value: Any, column: str) -> list[Message]:
    if not isinstance(value, list) or not all(isinstance(m, dict) and "role" in m for m in value):
        raise FormatError(f"`{column}` must be text or a list of {{role, content}} messages")
    for turn in value:
        content = turn.get("content")
        if turn["role"] not in _ROLES:
            raise FormatError(f"`{column}` has role: {turn['role']!r}; known are {', '.join(_ROLES)}")
        parts = isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content)
        if not (content is None or isinstance(content, str) or parts):
            raise FormatError(f"`{column}`: a {turn['role']} turn holds {type(content).__name__}, not text")
    # Columns of parquet files hold every key for every message; a key without a value was not there.
    return [{k: v for k, v in m.items() if v is not None} | {"content": m.get("content") or ""} for m in value]


def _answered(turns: Turns, column: str) -> Turns:
    """`turns`, in which every assistant's turn says something, and there is one."""
    if isinstance(turns, str):
        if not turns.strip():
            raise FormatError(f"`{column}` is empty: there is nothing to learn")
        return turns
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    if not answers:
        raise FormatError(f"`{column}` has no assistant turn: there is nothing to learn")
    for turn in answers:
        blank = isinstance(turn["content"], str) and not turn["content"].strip()
        if blank and turn.keys() == {"role", "content"}:  # a tool call, or thoughts, need no words beside them
            raise FormatError(f"`{column}` has an empty assistant turn: there is nothing to learn")
    return turns


def _differ(record: Record, chosen: str, rejected: str) -> None:
    if record[chosen] == record[rejected]:
        raise FormatError(f"`{chosen}` and `{rejected}` are the same: there is nothing to prefer")


def _margin(record: Record) -> float | None:
    value = record.get("margin")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise FormatError(f"`margin` is {value!r}; a finite number is due")
    return float(value)


def message(role: str, content: Any) -> Message:
    """One turn. Raises FormatError unless its content is text."""
    if not isinstance(content, str):
        raise FormatError(f"a {role} turn holds {type(content).__name__}, not text")
    return {"role": role, "content": content}


def answer(content: Any, column: str) -> list[Message]:
    """An assistant's turn that is to be learnt or compared: never empty."""
    if not isinstance(content, str):
        raise FormatError(f"`{column}` holds {type(content).__name__}, not text")
    if not content.strip():
        raise FormatError(f"`{column}` is empty: there is nothing to learn")
    return [message("assistant", content)]


def optional_text(record: Record, column: str) -> str:
    """The text of a column; empty where it is missing or null."""
    value = record.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FormatError(f"`{column}` holds {type(value).__name__}, not text")
    return value


def _same_kind(**columns: Turns) -> None:
    if len({isinstance(value, str) for value in columns.values()}) > 1:
        raise FormatError(f"{', '.join(f'`{c}`' for c in columns)} must all be text or all be lists of messages")


def unknown(record: Record, formats: tuple[str, ...]) -> FormatError:
    """The error for a record in none of the accepted formats."""
    found = ", ".join(map(str, record)) or "none"
    return FormatError(f"columns found: {found}; accepted: " + "; or ".join(formats))
