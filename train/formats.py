"""The shapes that a record of data may have, turned into one shape a stage. No torch here.

Text stays text: a chat template is applied later, and only where the record is a conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Record = dict[str, Any]
#: A conversation (list of role/content messages) or plain text.
Turns = list[Message] | str

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
_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


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


def example(record: Record) -> Example:
    """Read one SFT record in any of SFT_FORMATS."""
    if "conversations" in record:
        return Example([], _sharegpt(record))
    if "messages" in record:
        return Example([], _answered(_messages(record["messages"], "messages"), "messages"))
    if {"prompt", "completion"} <= record.keys():
        prompt, completion = _turns(record["prompt"], "prompt"), _turns(record["completion"], "completion")
        _same_kind(prompt=prompt, completion=completion)
        if isinstance(completion, list):
            _answered(completion, "completion")
        elif not completion:
            raise FormatError("`completion` is empty: there is nothing to learn")
        return Example(prompt, completion)
    if {"instruction", "output"} <= record.keys():
        instruction, extra = optional_text(record, "instruction"), optional_text(record, "input")
        question = f"{instruction}\n{extra}" if extra else instruction
        return Example(dialogue(record, question), [message("assistant", optional_text(record, "output"))])
    raise unknown(record, SFT_FORMATS)


def preference(record: Record) -> Preference:
    """Read one preference record in any of PREFERENCE_FORMATS."""
    if {"question", "response_chosen", "response_rejected"} <= record.keys():
        return Preference(
            dialogue(record, optional_text(record, "question")),
            [message("assistant", optional_text(record, "response_chosen"))],
            [message("assistant", optional_text(record, "response_rejected"))],
        )
    if not {"chosen", "rejected"} <= record.keys():
        raise unknown(record, PREFERENCE_FORMATS)
    chosen, rejected = _turns(record["chosen"], "chosen"), _turns(record["rejected"], "rejected")
    if record.get("prompt") is not None:
        prompt = _turns(record["prompt"], "prompt")
        if isinstance(prompt, str) and isinstance(chosen, list):  # UltraFeedback: the prompt once more, as text
            prompt, chosen, rejected = _split_common(chosen, rejected)
        elif isinstance(prompt, list) and isinstance(chosen, str) and isinstance(rejected, str):
            chosen, rejected = [message("assistant", chosen)], [message("assistant", rejected)]
    else:
        prompt, chosen, rejected = _split_common(chosen, rejected)
    _same_kind(prompt=prompt, chosen=chosen, rejected=rejected)
    if not chosen or not rejected:
        raise FormatError("`chosen` and `rejected` must both hold an answer after the prompt")
    return Preference(prompt, chosen, rejected)


def shared_length(a: Turns, b: Turns) -> int:
    """How many first characters (or messages) two texts (or conversations) share."""
    differing = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def _split_common(chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    _same_kind(chosen=chosen, rejected=rejected)
    if isinstance(chosen, str) and isinstance(rejected, str):
        size = shared_length(chosen, rejected)
        if size and chosen[size - 1] == " ":  # the space belongs to the word after it, as in TRL
            size -= 1
        return chosen[:size], chosen[size:], rejected[size:]
    size = shared_length(chosen, rejected)
    return chosen[:size], chosen[size:], rejected[size:]


def _sharegpt(record: Record) -> list[Message]:
    turns = record["conversations"]
    if not isinstance(turns, list) or not all(isinstance(t, dict) and {"from", "value"} <= t.keys() for t in turns):
        raise FormatError("`conversations` must be a list of {from, value}")
    messages = []
    for turn in turns:
        if turn["from"] not in _ROLES:
            raise FormatError(f"`conversations` has from: {turn['from']!r}; known are {', '.join(_ROLES)}")
        messages.append(message(_ROLES[turn["from"]], turn["value"]))
    system = optional_text(record, "system_prompt")
    if system and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, message("system", system))
    return _answered(messages, "conversations")


def dialogue(record: Record, question: str) -> list[Message]:
    """System, history and question of the documents' formats as messages."""
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
    # Columns of parquet files hold every key for every message; a key without a value was not there.
    return [{k: v for k, v in m.items() if v is not None} | {"content": m.get("content") or ""} for m in value]


def _answered(messages: list[Message], column: str) -> list[Message]:
    if not any(m["role"] == "assistant" for m in messages):
        raise FormatError(f"`{column}` has no assistant turn: there is nothing to learn")
    return messages


def message(role: str, content: Any) -> Message:
    """One turn. Raises FormatError unless its content is text."""
    if not isinstance(content, str):
        raise FormatError(f"a {role} turn holds {type(content).__name__}, not text")
    return {"role": role, "content": content}


def answer(content: Any, column: str) -> list[Message]:
    """An assistant's turn that is to be learnt or compared: never empty."""
    turn = message("assistant", content)
    if not turn["content"].strip():
        raise FormatError(f"`{column}` is empty: there is nothing to learn")
    return [turn]


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
