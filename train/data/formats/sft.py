"""The formats of records for supervised fine-tuning. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import reading
from .fields import SYSTEM, answered, instructed, reply, with_system, without_prompt
from .reading import Format, Reader
from .turns import FormatError, Record, Tools, Turns, calls_in, conversation, is_learnt, linked, tools, turns


@dataclass(frozen=True, slots=True)
class Example:
    """An SFT record: what is given, what is learnt (of a conversation, its assistant turns), and the tools on offer."""

    prompt: Turns
    completion: Turns
    tools: Tools = field(default_factory=list)

    def parts(self) -> list[Turns]:
        """All turns or texts, in their order."""
        return [self.prompt, self.completion]

    def given(self) -> list[Any]:
        """The texts that the model is given and does not learn."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        said = [turn for part in self.parts() for turn in part if isinstance(turn, dict)]
        return [turn["content"] for turn in said if not is_learnt(turn)]


def _chat(column: str) -> Reader[Example]:
    def read_chat(record: Record) -> Example:
        found = with_system(record, conversation(record[column], column))
        if not any(map(is_learnt, answered(found, column))):
            raise FormatError(f"every assistant turn of `{column}` has weight 0: there is nothing to learn")
        return Example([], linked(found), tools(record))

    return read_chat


def _completion(record: Record) -> Example:
    prompt, completion = turns(record["prompt"], "prompt"), turns(record["completion"], "completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return Example(prompt, answered(without_prompt(prompt, completion), "completion"))
    if isinstance(prompt, str) or isinstance(completion, str):
        raise FormatError("`prompt` and `completion` must both be text or both be lists of messages")
    prompt, completion = with_system(record, prompt), answered(without_prompt(prompt, completion), "completion")
    return Example(linked(prompt), linked(completion, calls_in(prompt)), tools(record))


def _instruction(record: Record) -> Example:
    return Example(instructed(record), linked(reply(record["output"], "output")), tools(record))


SFT_FORMATS = (
    Format(("conversations",), (*SYSTEM, "tools"), _chat("conversations"), "[{from: system|human|gpt|..., value}]"),
    Format(("messages",), (*SYSTEM, "tools"), _chat("messages"), "[{role, content}]"),
    Format(
        ("prompt", "completion"),
        (),
        _completion,
        "text, without a chat template",
        when=lambda record: isinstance(record["prompt"], str) and isinstance(record["completion"], str),
    ),
    Format(("prompt", "completion"), (*SYSTEM, "tools"), _completion, "lists of messages"),
    Format(("instruction", "output"), ("input", *SYSTEM, "history", "tools"), _instruction),
)


def example(record: Record) -> Example:
    """Read one SFT record in any of SFT_FORMATS."""
    return reading.read(record, SFT_FORMATS)
