"""The parts of records that several formats share: system prompt, history and question, answers. No torch here."""

from __future__ import annotations

from typing import Any, TypeVar

from .turns import FormatError, Message, Record, Turns, message, turns

#: Text or a list of messages; a function that is given one of them returns the same.
T = TypeVar("T", bound=Turns)
#: Columns that may hold the system prompt.
SYSTEM = ("system", "system_prompt")
#: An answer that begins with a prompt of at least so many characters repeats the prompt; with less it may be chance.
SURELY_REPEATED = 8


def shared_length(a: Turns, b: Turns) -> int:
    """The length of the common beginning of two texts (in characters) or conversations (in messages)."""
    differing = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def with_system(record: Record, messages: list[Message]) -> list[Message]:
    """The messages, preceded by the system prompt from the record's own column, if it has one.

    Raises FormatError if it differs from a system prompt that the messages begin with.
    """
    given = {text for column in SYSTEM if (text := optional_text(record, column))}
    if messages and messages[0]["role"] in ("system", "developer"):
        given.discard(messages[0]["content"])
        if given:
            raise FormatError("the conversation begins with another system prompt than the record's system column")
        return messages
    if len(given) > 1:
        raise FormatError("`system` and `system_prompt` differ: which one is it?")
    return [*(message("system", text) for text in given), *messages]


def dialogue(record: Record, question: str) -> list[Message]:
    """System prompt, `history` (pairs of question and answer) and question as messages."""
    if not question.strip():
        raise FormatError("the question is empty: there is nothing to answer")
    messages: list[Message] = []
    history = record.get("history") or []
    pair_size = 2
    if not isinstance(history, list) or not all(isinstance(p, (list, tuple)) and len(p) == pair_size for p in history):
        raise FormatError("`history` must be a list of [question, answer] pairs")
    for asked, answer in history:
        messages += [message("user", asked), message("assistant", answer)]
    return with_system(record, [*messages, message("user", question)])


def instructed(record: Record) -> list[Message]:
    """Alpaca's instruction and input as a question, after the system prompt and the history."""
    instruction, extra = optional_text(record, "instruction"), optional_text(record, "input")
    return dialogue(record, f"{instruction}\n{extra}" if extra else instruction)


def reply(value: Any, column: str) -> list[Message]:
    """Read an answer: text (which becomes an assistant turn), one turn or a list. Raises FormatError if it is empty."""
    if not isinstance(value, (str, list, dict)):
        raise FormatError(f"`{column}` holds {type(value).__name__}, not text")
    found = answered(turns(value, column), column)
    return [message("assistant", found)] if isinstance(found, str) else found


def answered(turns: T, column: str) -> T:
    """`turns`, checked: there is an assistant turn and none is empty. Raises FormatError otherwise."""
    if isinstance(turns, str):
        if not turns.strip():
            raise FormatError(f"`{column}` is empty: there is nothing to learn")
        return turns
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    if not answers:
        raise FormatError(f"`{column}` has no assistant turn: there is nothing to learn")
    for turn in answers:
        blank = isinstance(turn["content"], str) and not turn["content"].strip()
        if blank and not turn.keys() - {"role", "content", "weight"}:  # tool calls and reasoning need no text
            raise FormatError(f"`{column}` has an empty assistant turn: there is nothing to learn")
    return turns


def without_prompt(prompt: Any, rest: Any) -> Any:
    """`rest`, which follows the prompt, without the repetition of the prompt that it may begin with."""
    certain = isinstance(prompt, list) or len(prompt.strip()) >= SURELY_REPEATED
    return rest[len(prompt) :] if prompt and certain and rest[: len(prompt)] == prompt else rest


def optional_text(record: Record, column: str) -> str:
    """The text of a column; empty where it is missing or null."""
    value = record.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FormatError(f"`{column}` holds {type(value).__name__}, not text")
    return value
