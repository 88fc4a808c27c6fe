"""Where in a rendered conversation the assistant's answers stand, for any chat template.

A chat template is a program: it says nowhere which of its characters are an answer. So each answer is found by
rendering the conversation with and without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..formats.fields import shared_length
from ..formats.turns import FormatError, Message, Tools
from .chat_template import refuse_lost, render, render_each

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Text:
    """A text and the stretches of it that are to be learnt; plain: without a chat template."""

    text: str
    spans: list[Span]
    plain: bool = False


def plain(prompt: str, rest: str) -> Text:
    """Text after text; the second is learnt."""
    return Text(prompt + rest, [(len(prompt), len(prompt) + len(rest))], plain=True)


def reply(tokenizer: Any, prompt: list[Message], asked: str, turns: list[Message], tools: Tools | None = None) -> Text:
    """A prompt and a reply to it, of which all that the assistant says is learnt.

    asked: the prompt, rendered to where the assistant begins.
    """
    messages = [*prompt, *turns]
    whole = render(tokenizer, messages, tools)
    spans = {}
    for i in range(len(prompt), len(messages)):
        if messages[i]["role"] == "assistant":
            start = answer_start(tokenizer, messages, i, whole, tools, asked=asked if i == len(prompt) else None)
            end = len(whole)
            if i + 1 < len(messages):
                end = start + _end(whole[start:], render(tokenizer, messages[: i + 1], tools)[start:])
            spans[i] = (start, end)
    _refuse_lost(messages, whole, spans)
    return Text(whole, list(spans.values()))


def _end(rest: str, last: str) -> int:
    """Characters of an answer in a text that goes on, from how it was written when it was `last`.

    As the last one it may begin with more (Qwen3 writes empty thoughts), but it ends in the same way.
    """
    for begin in range(len(last)):
        if rest.startswith(last[begin:]):
            return len(last) - begin
    raise FormatError("the tokenizer's chat template rewrites an answer's earlier turns beyond recognition")


def conversation(tokenizer: Any, messages: list[Message], learnt: list[int], tools: Tools | None = None) -> list[Text]:
    """The texts in which the turns at `learnt` are learnt: one, or one for each turn where later turns change it."""
    whole = render(tokenizer, messages, tools)
    spans = _by_pattern(tokenizer, messages, learnt, whole, tools)
    texts = {}
    if spans is None:
        texts = {i: render(tokenizer, messages[: i + 1], tools) for i in learnt if i + 1 < len(messages)}
        texts |= {i: whole for i in learnt if i + 1 == len(messages)}
        spans = {i: (answer_start(tokenizer, messages, i, texts[i], tools), len(texts[i])) for i in learnt}
    if all(whole.startswith(text) for text in texts.values()):
        _refuse_lost(messages, whole, spans)
        return [Text(whole, [spans[i] for i in learnt])]
    # For example Qwen3 drops the thoughts of earlier turns: each answer is learnt in the text that it was given in.
    for i in learnt:
        _refuse_lost(messages[: i + 1], texts[i], {i: spans[i]})
    return [Text(texts[i], [spans[i]]) for i in learnt]


def _by_pattern(
    tokenizer: Any, messages: list[Message], learnt: list[int], whole: str, tools: Tools | None
) -> dict[int, Span] | None:
    """The spans of the answers of a long plain conversation, from what stands around words in its second round.

    Else a conversation would be rendered for each of its answers. Only where the words, set into the same frame round
    after round, give the whole text; else None.
    """
    first = next((i for i, turn in enumerate(messages) if turn["role"] == "user"), 0)
    talk = messages[first:]
    roles = [turn["role"] for turn in talk]
    rounds, few = len(talk) // 2, 3
    if (
        rounds < few
        or roles != ["user", "assistant"] * rounds
        or any(turn["role"] == "assistant" for turn in messages[:first])
    ):
        return None
    words = [turn["content"] for turn in talk if not turn.keys() - {"role", "content", "weight"}]
    if len(words) < len(talk) or not all(isinstance(said, str) and said and said == said.strip() for said in words):
        return None
    one, two = render_each(tokenizer, [messages[: first + 2], messages[: first + 4]], tools)
    asked = render(tokenizer, messages[: first + 3], tools, ask=True)
    if not (two.startswith(one) and two.startswith(asked) and len(asked) >= len(one)):
        return None
    around = (two[len(one) : len(asked)].split(words[2]), two[len(asked) :].split(words[3]))
    if any(len(frame) != 2 for frame in around):  # its words stand in the frame itself, too
        return None
    spans = {first + 1: (answer_start(tokenizer, messages, first + 1, one, tools), len(one))}
    text = one
    for i in range(2, len(talk), 2):
        given, said = (words[i + k].join(frame) for k, frame in enumerate(around))
        spans[first + i + 1] = (len(text) + len(given), len(text) + len(given) + len(said))
        text += given + said
    return {i: spans[i] for i in learnt} if text == whole else None


def answer_start(
    tokenizer: Any,
    messages: list[Message],
    index: int,
    text: str,
    tools: Tools | None = None,
    *,
    asked: str | None = None,
) -> int:
    """Where the answer at `index` begins in a text that has it; asked: what asks for it, where that was rendered."""
    before = messages[:index]
    asked = render(tokenizer, before, tools, ask=True) if asked is None else asked
    if text.startswith(asked):
        return len(asked)
    without = render(tokenizer, before, tools)
    if not text.startswith(without):
        raise FormatError("the tokenizer's chat template changes the question when the answer is added to it")
    # The prompt that asks may go further than the answer does (an opening <think>): only what they share is given.
    return max(shared_length(asked, text), len(without))


def _refuse_lost(messages: Sequence[Message], text: str, spans: dict[int, Span]) -> None:
    """Raise FormatError for a turn that is learnt and not in its span, or given and not in the text at all."""
    for i, turn in enumerate(messages):
        if i in spans or turn["role"] != "assistant":  # of other answers the thoughts may have been dropped
            refuse_lost(turn, text[slice(*spans[i])] if i in spans else text)
