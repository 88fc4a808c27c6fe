"""The formats of preference records, two answers to one prompt, for rm, dpo and orpo. No torch here."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from . import reading
from .fields import (
    SYSTEM,
    answered,
    dialogue,
    instructed,
    optional_text,
    reply,
    shared_length,
    with_system,
    without_prompt,
)
from .reading import Format, Reader
from .turns import FormatError, Message, Record, Tools, Turns, calls_in, conversation, linked, tools, turns


@dataclass(frozen=True, slots=True)
class Preference:
    """A preference record: two answers to one prompt, and the tools that they may call.

    margin: by how much the chosen answer is better, on the annotator's scale; None if it was not rated.
    safe: whether the chosen and the rejected answer are each harmless; None if that was not judged.
    """

    prompt: Turns
    chosen: Turns
    rejected: Turns
    margin: float | None = None
    tools: Tools = field(default_factory=list)
    safe: tuple[bool | None, bool | None] = (None, None)

    def parts(self) -> list[Turns]:
        """All turns or texts, in their order."""
        return [self.prompt, self.chosen, self.rejected]

    def given(self) -> list[Any]:
        """The texts of the prompt."""
        return [self.prompt] if isinstance(self.prompt, str) else [turn["content"] for turn in self.prompt]


def pair(
    record: Record, prompt: Turns, names: tuple[str, str], replies: tuple[Turns, Turns] | None = None
) -> Preference:
    """The answers in the columns `names` to a prompt, without what they repeat of it.

    replies: the contents of these columns, if they were read already.
    """
    _differ(record, *names)
    both = replies or (turns(record[names[0]], names[0]), turns(record[names[1]], names[1]))
    if isinstance(prompt, str):
        if not all(isinstance(each, str) for each in both):
            raise FormatError(f"{', '.join(f'`{n}`' for n in names)} must both be text, as the prompt is")
        repeated = all(isinstance(each, str) and each.startswith(prompt) for each in both)
        chosen, rejected = (without_prompt(prompt, each) if repeated else each for each in both)
        both = answered(chosen, names[0]), answered(rejected, names[1])
        return Preference(prompt, *both, _margin(record), safe=safety(record))
    prompt = with_system(record, prompt)
    if not any(turn["role"] in ("user", "tool") for turn in prompt) or prompt[-1]["role"] == "assistant":
        raise FormatError("the prompt does not end with a question (a user's turn, or a tool's): what is answered?")
    given = linked(prompt)
    known = calls_in(prompt)
    chosen, rejected = (
        linked(_after(prompt, reply(each, name), name), known) for each, name in zip(both, names, strict=True)
    )
    return Preference(given, chosen, rejected, _margin(record), tools(record), safety(record))


def _after(prompt: list[Message], answer: list[Message], column: str) -> list[Message]:
    """An answer without the end of the prompt that it may repeat. The rest must begin with an assistant turn."""
    sizes = range(min(len(prompt), len(answer)), 0, -1)
    repeated = next((size for size in sizes if prompt[-size:] == answer[:size]), 0)
    rest = answer[repeated:]
    if not rest:
        raise FormatError(f"`{column}` only repeats the prompt: no answer follows it")
    if rest[0]["role"] != "assistant":
        raise FormatError(
            f"`{column}` continues with a {rest[0]['role']} turn that is not in the prompt; an answer must begin with "
            "an assistant turn"
        )
    return answered(rest, column)


def _question(names: tuple[str, str]) -> Reader[Preference]:
    return lambda record: pair(record, dialogue(record, optional_text(record, "question")), names)


def _talk(column: str) -> Reader[Preference]:
    return lambda record: pair(record, conversation(record[column], column), CHOICE)


def _prompted(record: Record) -> Preference:
    prompt = turns(record["prompt"], "prompt")
    both = turns(record["chosen"], "chosen"), turns(record["rejected"], "rejected")
    if isinstance(prompt, list) or all(isinstance(each, str) for each in both):
        return pair(record, prompt, CHOICE, both)
    if any(isinstance(each, str) for each in both):
        raise FormatError("`chosen` and `rejected` must both be text or both be lists of messages")
    if all(each[0]["role"] == "assistant" for each in both if isinstance(each, list) and each):
        return pair(record, dialogue(record, prompt), CHOICE, both)
    # UltraFeedback: `chosen` and `rejected` are whole conversations, whose question `prompt` repeats as text.
    found = _common(record)
    if not any(turn["content"].strip() == prompt.strip() for turn in found.prompt if isinstance(turn, dict)):
        raise FormatError("`prompt` differs from the question that `chosen` and `rejected` begin with")
    return found


def _common(record: Record) -> Preference:
    """The prompt is the common beginning of `chosen` and `rejected`."""
    _differ(record, *CHOICE)
    chosen, rejected = turns(record["chosen"], "chosen"), turns(record["rejected"], "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise FormatError("`chosen` and `rejected` must both be text or both be lists of messages")
    size = shared_length(chosen, rejected)
    if size and isinstance(chosen, str) and chosen[size - 1] == " ":  # a space belongs to the next word, as in TRL
        size -= 1
    if not chosen[size:] or not rejected[size:]:
        raise FormatError("one of `chosen` and `rejected` is the beginning of the other: no answer follows the prompt")
    return pair(record, chosen[:size], CHOICE, (chosen[size:], rejected[size:]))


def _all_text(record: Record) -> bool:
    return all(isinstance(record[name], str) for name in ("prompt", *CHOICE) if record.get(name) is not None)


CHOICE = ("chosen", "rejected")
_LONG = ("response_chosen", "response_rejected")
_JUDGED = ("margin", "safety_labels")
_BESIDE = (*SYSTEM, "tools", *_JUDGED)
PREFERENCE_FORMATS = (
    Format(("question", *_LONG), (*_BESIDE, "history"), _question(_LONG)),
    Format(("question", *CHOICE), (*_BESIDE, "history"), _question(CHOICE)),
    Format(
        ("instruction", *CHOICE),
        ("input", *_BESIDE, "history"),
        lambda record: pair(record, instructed(record), CHOICE),
    ),
    Format(("prompt", *CHOICE), _JUDGED, _prompted, "text, without a chat template", when=_all_text),
    Format(("prompt", *CHOICE), _BESIDE, _prompted, "lists of messages; or of prompt and answers one is text"),
    Format(
        ("conversations", *CHOICE),
        _BESIDE,
        _talk("conversations"),
        "[{from, value}] is the prompt, and the answers are text, {from, value} or lists",
    ),
    Format(
        ("messages", *CHOICE),
        _BESIDE,
        _talk("messages"),
        "[{role, content}] is the prompt, and the answers as above",
        when=lambda record: record["messages"] not in (record["chosen"], record["rejected"]),
    ),
    Format(CHOICE, _JUDGED, _common, "text, whose common beginning is the prompt", when=_all_text),
    Format(CHOICE, _BESIDE, _common, "lists of messages, whose common beginning is the prompt"),
)


def preference(record: Record) -> Preference:
    """Read one preference record in any of PREFERENCE_FORMATS, with or without `margin` (a number).

    `safety_labels` beside them is {chosen: 1 or -1, rejected: 1 or -1}, for rm: which answers are harmless.
    """
    return reading.read(record, PREFERENCE_FORMATS)


def _differ(record: Record, chosen: str, rejected: str) -> None:
    if record[chosen] == record[rejected]:
        raise FormatError(f"`{chosen}` and `{rejected}` are the same: there is nothing to prefer")


def _margin(record: Record) -> float | None:
    value = record.get("margin")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise FormatError(f"`margin` is {value!r}; expected a finite number")
    return float(value)


def safety(record: Record) -> tuple[bool | None, bool | None]:
    """`safety_labels` of the chosen and the rejected answer: 1 (safe) is True, -1 False, null or missing None."""
    value = record.get("safety_labels")
    if value is None:
        return None, None
    if not isinstance(value, dict) or not {"chosen", "rejected"} <= value.keys():
        raise FormatError("`safety_labels` must be {chosen: 1 or -1, rejected: 1 or -1}")
    for side in ("chosen", "rejected"):
        if value[side] not in (1, -1, None) or isinstance(value[side], bool):
            raise FormatError(f"`safety_labels.{side}` is {value[side]!r}; expected 1 (safe) or -1 (unsafe)")
    chosen, rejected = (None if value[side] is None else value[side] == 1 for side in ("chosen", "rejected"))
    return chosen, rejected
