"""From turns to tokens, each marked as learnt (it counts in the loss) or given, for any chat template.

A text is tokenised once, as a whole, and a token is learnt if it begins in an answer (`answers`): so no token differs
from what the model sees at inference.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..formats.turns import Tools, Turns, is_learnt
from . import answers
from .answers import Span, Text
from .chat_template import render

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The result of encoding one record: rows to train on (none: it was dropped; why), and whether it was truncated."""

    rows: list[Row]
    truncated: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token sequence, and for each token whether it is learnt."""

    ids: list[int]
    learnt: list[bool]


def tokenizer_of(reader: Any) -> Any:
    """The tokenizer of a vision-language model's processor; a tokenizer is returned as it is."""
    return getattr(reader, "tokenizer", reader)


def identity(reader: Any) -> str:
    """All of a tokenizer or processor on which its tokens depend, as text for the cache's key."""
    if hasattr(reader, "image_processor"):
        return f"{reader.to_json_string()} {reader.chat_template} {identity(reader.tokenizer)}"
    tokenizer = reader
    core = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    return f"{core} {tokenizer.chat_template} {tokenizer.special_tokens_map}"


def encode(tokenizer: Any, prompt: Turns, completion: Turns, tools: Tools | None = None) -> list[Tokens]:
    """Tokenise a prompt and what follows it. More than one sequence only if the template rewrites earlier turns.

    tokenizer: or a processor, for conversations without images whose contents are lists of parts.
    """
    if isinstance(prompt, str) and isinstance(completion, str):
        return tokenise(tokenizer, [answers.plain(prompt, completion)])
    messages = [*prompt, *completion]
    learnt = [i for i in range(len(prompt), len(messages)) if is_learnt(messages[i])]
    return tokenise(tokenizer, answers.conversation(tokenizer, messages, learnt, tools))


def encode_answers(tokenizer: Any, prompt: Turns, replies: Sequence[Turns], tools: Tools | None = None) -> list[Tokens]:
    """Tokenise several replies to one prompt, each after it. Assistant turns of a reply are learnt, all else is given.

    Always one sequence a reply: if the template rewrites earlier turns of it, they are learnt as finally rendered.
    """
    if isinstance(prompt, str):
        return tokenise(tokenizer, [answers.plain(prompt, reply) for reply in replies if isinstance(reply, str)])
    asked = render(tokenizer, prompt, tools, ask=True)
    given = [[turn for turn in reply if isinstance(turn, dict)] for reply in replies]
    return tokenise(tokenizer, [answers.reply(tokenizer, prompt, asked, turns, tools) for turns in given])


def tokenise(tokenizer: Any, texts: Sequence[Text]) -> list[Tokens]:
    """Tokenise texts; the tokens that begin in one of the spans are learnt.

    Plain text gets the tokenizer's special tokens and an end-of-sequence token; a chat template writes its own.
    """
    tokenizer = tokenizer_of(tokenizer)
    plain = texts[0].plain if texts else False
    if tokenizer.is_fast:
        found = tokenizer(
            [text.text for text in texts],
            add_special_tokens=plain,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids = found["input_ids"]
        learnt = [_within(o, text.spans) for o, text in zip(found["offset_mapping"], texts, strict=True)]
    else:
        ids = [list(tokenizer(text.text, add_special_tokens=plain)["input_ids"]) for text in texts]
        learnt = [_counted(tokenizer, text, len(i)) for i, text in zip(ids, texts, strict=True)]
    if plain:
        for own, marks in zip(ids, learnt, strict=True):
            if not own or own[-1] != tokenizer.eos_token_id:
                own.append(tokenizer.eos_token_id)
                marks.append(True)
            marks[-1] = True
    return [Tokens(own, marks) for own, marks in zip(ids, learnt, strict=True)]


def _within(offsets: list[Span], spans: list[Span]) -> list[bool]:
    """For each token whether it begins in a span and is not empty. The spans are sorted and do not overlap."""
    learnt = [False] * len(offsets)
    begins = list(accumulate((begin for begin, _ in offsets), max))  # an added end-of-sequence token begins at 0
    for begin, end in spans:
        first, last = bisect_left(begins, begin), bisect_left(begins, end)
        learnt[first:last] = [b > a for a, b in offsets[first:last]]
    return learnt


def _counted(tokenizer: Any, text: Text, size: int) -> list[bool]:
    """The same for slow tokenizers, which give no offsets: the tokens before each boundary are counted."""
    learnt = [False] * size
    for span in text.spans:
        first, last = (len(tokenizer(text.text[:end], add_special_tokens=text.plain)["input_ids"]) for end in span)
        learnt[first:last] = [True] * len(learnt[first:last])
    return learnt
