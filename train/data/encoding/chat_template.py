"""Rendering a conversation by a tokenizer's chat template, a program that may silently leave things out.

So each template is probed once with a made-up conversation: whether it takes contents as lists of parts, in which form
it takes a tool call, and whether it renders calls, tool results and offered tools at all. Records with anything that it
would leave out are refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import jinja2

from ..formats.turns import FormatError, Message, Tools

#: For tokenizers without a chat template. It is saved with the tokenizer, so that inference uses the same one.
FALLBACK_CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}### User:\n{{ m.content }}\n\n"
    "{% elif m.role == 'assistant' %}### Assistant:\n{{ m.content }}{{ eos_token }}\n\n"
    "{% else %}### {{ m.role }}:\n{{ m.content }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)


#: What a template may raise.
REFUSALS = (jinja2.TemplateError, ValueError, TypeError, LookupError, AttributeError)


def render(tokenizer: Any, messages: Sequence[Message], tools: Tools | None = None, *, ask: bool = False) -> str:
    """Apply the chat template; with `ask`, the generation prompt is added.

    tokenizer: or a vision-language model's processor. Raises FormatError if the template refuses the messages, or
    leaves out tools, calls or their results.
    """
    return render_each(tokenizer, [messages], tools, ask=ask)[0]


def render_each(
    tokenizer: Any, conversations: Sequence[Sequence[Message]], tools: Tools | None = None, *, ask: bool = False
) -> list[str]:
    """`render` for several conversations that are offered the same tools."""
    wanted = [_as_wanted(tokenizer, messages, tools) for messages in conversations if messages]
    try:
        found = iter(_apply(tokenizer, wanted, tools, ask=ask) if wanted else [])
    except REFUSALS as error:
        roles = ", ".join(m["role"] for m in conversations[0])
        raise FormatError(f"the tokenizer's chat template refuses the turns [{roles}]: {error}") from error
    return [next(found) if messages else "" for messages in conversations]


def difference(one: Any, other: Any) -> tuple[str, str] | None:
    """What two tokenizers (or processors) render for the same conversation, if that differs; None if they agree.

    Only what the templates write is compared, not their source; tools only if both templates can render them.
    """
    talk = [{"role": role, "content": f"probe {role}"} for role in ("user", "assistant") * 2]
    system = [{"role": "system", "content": "probe system"}]
    for messages, tools in ((talk, None), ([*system, *talk], None), (_PROBE, _OFFERED)):
        texts = [_attempt(reader, messages, tools) for reader in (one, other)]
        if texts[0] != texts[1] and (tools is None or None not in texts):
            return str(texts[0] or "(refused)"), str(texts[1] or "(refused)")
    return None


def _attempt(reader: Any, messages: list[Message], tools: Tools | None) -> str | None:
    try:
        return render(reader, messages, tools)
    except FormatError:
        return None


def refuse_lost(turn: Message, text: str) -> None:
    """Raise FormatError if `text`, as rendered by the chat template, lacks the turn's text or one of its tool calls."""
    for words in _words(turn):
        if words not in text:
            raise FormatError(
                f"the tokenizer's chat template leaves out what the {turn['role']} says ({words[:40]!r}). Choose a "
                "model or `tokenizer` whose template writes it"
            )
    names = [call["function"]["name"] for call in turn.get("tool_calls", ())]
    for name in names:
        if text.count(name) < names.count(name):
            raise FormatError(f"the tokenizer's chat template leaves out a call of {name}")


def _words(turn: Message) -> list[str]:
    """The texts that the rendering must contain. Not a tool's result, which takes many forms; see `_tool_manner`."""
    if turn["role"] == "tool":
        return []
    parts = turn["content"] if isinstance(turn["content"], list) else [{"text": turn["content"] or ""}]
    texts = [str(part.get("text", "")) for part in parts]
    return [text.rpartition("</think>")[2].strip() for text in texts]  # reasoning may be moved or dropped


def _apply(tokenizer: Any, talks: list[list[Message]], tools: Tools | None, *, ask: bool = False) -> list[str]:
    offered = {"tools": tools} if tools else {}
    return list(tokenizer.apply_chat_template(talks, tokenize=False, add_generation_prompt=ask, **offered))


def _as_wanted(tokenizer: Any, messages: Sequence[Message], tools: Tools | None) -> list[Message]:
    template = str(tokenizer.chat_template)
    used = {
        "offered tools": bool(tools),
        "tool calls": any("tool_calls" in turn for turn in messages),
        "the answers of tools": any(turn["role"] == "tool" for turn in messages),
    }
    wanted = list(messages)
    if any(used.values()):
        manner = _tool_manner(tokenizer, template, bool(tools))
        if lost := [what for what in manner.lost if used[what]]:
            raise FormatError(
                f"the tokenizer's chat template cannot write {' and '.join(lost)}{manner.why}. Choose a model or "
                "`tokenizer` whose template does"
            )
        wanted = [manner.apply(turn) for turn in wanted]
    return _in_parts(wanted) if _takes_parts_only(tokenizer, template) else wanted


def _in_parts(messages: Sequence[Message]) -> list[Message]:
    return [
        turn | {"content": [{"type": "text", "text": turn["content"]}]} if isinstance(turn["content"], str) else turn
        for turn in messages
    ]


@lru_cache(maxsize=8)
def _takes_parts_only(tokenizer: Any, _template: str) -> bool:
    """Whether the template silently leaves out contents that are plain text, as some vision-language models' do."""
    probe = "a text that no template has"
    turns = [{"role": "user", "content": probe}, {"role": "assistant", "content": f"{probe} either"}]
    for wanted in (turns, _in_parts(turns)):
        try:
            (text,) = _apply(tokenizer, [wanted], None)
        except REFUSALS:
            continue
        # A template that prints the Python list of parts does not support parts.
        if text.count(probe) == len(turns) and "{'type'" not in text:
            return wanted is not turns
    return False


@dataclass(frozen=True, slots=True)
class ToolManner:
    """How a template takes tool calls.

    arguments_as_text: as a JSON string, not a map. no_words: the content of a turn that only calls. lost: what the
    template cannot render, of offered tools, calls and results. why: the error that it raised.
    """

    arguments_as_text: bool = False
    no_words: str | None = ""
    lost: tuple[str, ...] = ()
    why: str = ""

    def apply(self, turn: Message) -> Message:
        """A turn in the form that the template takes."""
        if "tool_calls" not in turn:
            return turn
        calls = turn["tool_calls"]
        if self.arguments_as_text:
            calls = [call | {"function": _with_text(call["function"])} for call in calls]
        return turn | {"tool_calls": calls, "content": turn["content"] or self.no_words}


def _with_text(function: dict[str, Any]) -> dict[str, Any]:
    return function | {"arguments": json.dumps(function["arguments"], ensure_ascii=False)}


#: A conversation whose every part can be recognised in the rendering. Mistral requires ids of nine characters.
_OFFERED: Tools = [
    {
        "type": "function",
        "function": {
            "name": "probe_offered",
            "description": "Probes.",
            "parameters": {"type": "object", "properties": {"probe_known": {"type": "string", "description": "It."}}},
        },
    }
]
_CALLED = {"name": "probe_called", "arguments": {"probe_key": "probe_value"}}
_PROBE: list[Message] = [
    {"role": "user", "content": "probe_question"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "probe1234", "type": "function", "function": _CALLED}],
    },
    {"role": "tool", "tool_call_id": "probe1234", "name": "probe_called", "content": "probe_answer"},
    {"role": "assistant", "content": "probe_end"},
]


@lru_cache(maxsize=8)
def _tool_manner(tokenizer: Any, template: str, offers: bool) -> ToolManner:
    """The first form of tool calls in which the template loses nothing; else the one in which it loses least."""
    found: list[ToolManner] = []
    for arguments_as_text, no_words in product((False, True), ("", None)):
        manner = ToolManner(arguments_as_text, no_words)
        turns = [manner.apply(turn) for turn in _PROBE]
        turns = _in_parts(turns) if _takes_parts_only(tokenizer, template) else turns
        why = ""
        try:
            (text,) = _apply(tokenizer, [turns], _OFFERED if offers else None)
        except REFUSALS as error:
            text, why = "", f" ({error})"
        # Python's repr, and JSON encoded twice, are not the format in which the model was trained to call.
        odd = "{'probe_key'" in text or '\\"probe_key' in text
        called = not odd and all(word in text for word in ("probe_called", "probe_key", "probe_value"))
        written = {
            "offered tools": not offers or ("probe_offered" in text and "probe_known" in text),
            "tool calls": called,
            "the answers of tools": "probe_answer" in text,
        }
        lost = tuple(what for what, well in written.items() if not well)
        if not lost:
            return manner
        found.append(replace(manner, lost=lost, why=why))
    return min(found, key=lambda manner: len(manner.lost))
