"""From turns to tokens, with the tokens to learn marked, for any chat template.

A chat template is a program: it says nowhere which of its characters are an assistant's answer. So each answer is
found by rendering the conversation with and without it. The text is then tokenised once, as a whole, and a token is
learnt when its characters lie in an answer: no token differs from what the model sees at inference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from alignlaunch.train.fields import shared_length
from alignlaunch.train.turns import FormatError, Message, Turns

#: For tokenizers without a chat template of their own; it is saved with the tokenizer, so inference uses the same.
FALLBACK_CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}### User:\n{{ m.content }}\n\n"
    "{% elif m.role == 'assistant' %}### Assistant:\n{{ m.content }}{{ eos_token }}\n\n"
    "{% else %}### {{ m.role }}:\n{{ m.content }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)

Span = tuple[int, int]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of one record: rows to train on (none: dropped) and whether something was cut off."""

    rows: list[Row]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token sequence and which of its tokens are to be learnt."""

    ids: list[int]
    learnt: list[bool]


def tokenizer_of(reader: Any) -> Any:
    """The tokenizer of a vision-language model's processor; a tokenizer is its own."""
    return getattr(reader, "tokenizer", reader)


def render(tokenizer: Any, messages: list[Message], *, ask: bool = False) -> str:
    """Apply the chat template; `ask` ends the text where the assistant would begin."""
    if not messages:
        return ""
    import jinja2

    if _takes_parts_only(tokenizer, str(tokenizer.chat_template)):
        messages = [turn | {"content": _as_parts(turn["content"])} for turn in messages]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        roles = ", ".join(m["role"] for m in messages)
        raise FormatError(f"the tokenizer's chat template refuses the turns [{roles}]: {error}") from error


@lru_cache(maxsize=8)
def _takes_parts_only(tokenizer: Any, _template: str) -> bool:
    """Whether the template leaves a plain text out, as those of some vision-language models do, without a word."""
    import jinja2

    probe = "a text that no template has"
    for content in (probe, _as_parts(probe)):
        try:
            turn = [{"role": "user", "content": content}]
            if probe in tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=False):
                return content is not probe
        except (jinja2.TemplateError, ValueError, TypeError):
            continue
    return False


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def encode(tokenizer: Any, prompt: Turns, completion: Turns) -> list[Tokens]:
    """Tokenise a prompt and what follows it. More than one sequence only where the template rewrites earlier turns.

    tokenizer: or a processor, for conversations without images whose contents are lists of parts.
    """
    if isinstance(prompt, str) and isinstance(completion, str):
        return [_tokenise(tokenizer, prompt + completion, [(len(prompt), len(prompt) + len(completion))], plain=True)]
    messages = [*prompt, *completion]
    answers = [i for i in range(len(prompt), len(messages)) if messages[i]["role"] == "assistant"]
    whole = render(tokenizer, messages)
    texts = {i: render(tokenizer, messages[: i + 1]) for i in answers}
    starts = {i: answer_start(tokenizer, messages, i, texts[i]) for i in answers}
    if all(whole.startswith(text) for text in texts.values()):
        return [_tokenise(tokenizer, whole, [(starts[i], len(texts[i])) for i in answers])]
    # For example Qwen3 drops the thoughts of earlier turns: each answer is learnt in the text that it was given in.
    return [_tokenise(tokenizer, texts[i], [(starts[i], len(texts[i]))]) for i in answers]


def answer_start(tokenizer: Any, messages: list[Message], index: int, text: str) -> int:
    """Where the answer begins in the text that ends with it."""
    before = render(tokenizer, messages[:index])
    if not text.startswith(before):
        raise FormatError("the tokenizer's chat template changes the question when the answer is added to it")
    # The prompt that asks may go further than the answer does (an opening <think>): only what they share is given.
    return max(shared_length(render(tokenizer, messages[:index], ask=True), text), len(before))


def _tokenise(tokenizer: Any, text: str, spans: Iterable[Span], *, plain: bool = False) -> Tokens:
    """Tokenise a text; learnt are the tokens that begin in one of the spans.

    Plain text gets the tokenizer's own special tokens and an end of sequence; a template writes its own.
    """
    tokenizer = tokenizer_of(tokenizer)
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True)
        ids, offsets = list(found["input_ids"]), found["offset_mapping"]
        learnt = [end > begin and any(a <= begin < b for a, b in spans) for begin, end in offsets]
    else:
        ids = list(tokenizer(text, add_special_tokens=plain)["input_ids"])
        learnt = [False] * len(ids)
        for a, b in spans:  # without offsets, count the tokens before each boundary
            first, last = (len(tokenizer(text[:end], add_special_tokens=plain)["input_ids"]) for end in (a, b))
            learnt[first:last] = [True] * len(learnt[first:last])
    if plain:
        if not ids or ids[-1] != tokenizer.eos_token_id:
            ids.append(tokenizer.eos_token_id)
            learnt.append(True)
        learnt[-1] = True
    return Tokens(ids, learnt)
