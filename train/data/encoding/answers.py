"""Where the assistant's answers are in a rendered conversation, for any chat template.

A chat template is a program that does not mark which of its output is an answer. So each answer is located by
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
    """A text and its spans of characters that are to be learnt; plain: rendered without a chat template."""

    text: str
    spans: list[Span]
    plain: bool = False


def plain(prompt: str, rest: str) -> Text:
    """A prompt and the text that follows it, which is learnt; without a chat template."""
    return Text(prompt + rest, [(len(prompt), len(prompt) + len(rest))], plain=True)


def reply(tokenizer: Any, prompt: list[Message], asked: str, turns: list[Message], tools: Tools | None = None) -> Text:
    """A prompt and a reply to it, of which all assistant turns are learnt.

    asked: the prompt, rendered with the generation prompt.
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
    """The length of an answer at the beginning of `rest`, given its rendering as the last turn of a conversation.

    As the last turn it may begin with more (Qwen3 adds an empty reasoning block), but it ends in the same way.
    """
    for begin in range(len(last)):
        if rest.startswith(last[begin:]):
            return len(last) - begin
    raise FormatError("the tokenizer's chat template rewrites an answer's earlier turns beyond recognition")


def conversation(tokenizer: Any, messages: list[Message], learnt: list[int], tools: Tools | None = None) -> list[Text]:
    """The texts in which the turns at `learnt` are learnt.

    One text, or one for each of these turns if the template renders a turn differently once others follow it.
    """
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
    # Qwen3, for example, drops the reasoning of earlier turns: each answer is learnt in the text that ends with it.
    for i in learnt:
        _refuse_lost(messages[: i + 1], texts[i], {i: spans[i]})
    return [Text(texts[i], [spans[i]]) for i in learnt]


def _by_pattern(
    tokenizer: Any, messages: list[Message], learnt: list[int], whole: str, tools: Tools | None
) -> dict[int, Span] | None:
    """The spans of the answers in a long plain conversation, from the template's text around its second round.

    This saves one rendering of the conversation for each answer. None unless repeating that frame, filled with each
    round's messages, gives exactly the whole text.
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
    if any(len(frame) != 2 for frame in around):  # the frame itself contains the message's text
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
    """The position in the rendered `text` where the answer, the message at `index`, begins.

    asked: the messages before it, rendered with the generation prompt, if that was done already.
    """
    before = messages[:index]
    asked = render(tokenizer, before, tools, ask=True) if asked is None else asked
    if text.startswith(asked):
        return len(asked)
    without = render(tokenizer, before, tools)
    if not text.startswith(without):
        raise FormatError("the tokenizer's chat template changes the question when the answer is added to it")
    # The generation prompt may end with what the answer lacks (an opening <think>): only what both share is given.
    return max(shared_length(asked, text), len(without))


def _refuse_lost(messages: Sequence[Message], text: str, spans: dict[int, Span]) -> None:
    """Raise FormatError if a turn to be learnt is missing from its span, or a given turn from the whole text."""
    for i, turn in enumerate(messages):
        if i in spans or turn["role"] != "assistant":  # other answers may lose their reasoning
            refuse_lost(turn, text[slice(*spans[i])] if i in spans else text)
