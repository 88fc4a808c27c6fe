"""The turns of a conversation in every accepted spelling, turned into one: messages as chat templates take them.

ShareGPT's {from, value} with `function_call` and `observation`, and OpenAI's {role, content} with `tool_calls` and role
`tool`, mean the same. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]
Record = dict[str, Any]
#: A conversation (list of role/content messages) or plain text.
Turns = list[Message] | str
#: Function schemas as chat templates take them: {type: function, function: {name, description, parameters}}.
Tools = list[dict[str, Any]]

#: Who speaks, in each spelling, and the role of it.
ROLES = {
    **{name: name for name in ("system", "developer", "user", "assistant", "tool")},
    **{"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool", "function": "tool"},
}
#: By these an assistant's turn says whether it is learnt (OpenAI, Axolotl, ms-swift).
_WEIGHTS = ("weight", "train", "loss")


class FormatError(ValueError):
    """A record that cannot be read; the message says which rule it breaks."""


def are_turns(value: Any) -> bool:
    """Whether a value is a list of {from, value} or {role, content}, whatever its column is called."""
    return isinstance(value, list) and bool(value) and all(map(_is_turn, value))


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ({"from", "value"} <= value.keys() or "role" in value)


def conversation(value: Any, column: str) -> list[Message]:
    """Read a list of turns. Raises FormatError for anything else."""
    if not isinstance(value, list) or not all(map(_is_turn, value)):
        raise FormatError(f"`{column}` must be text or a list of {{role, content}} or {{from, value}} turns")
    messages: list[Message] = []
    for turn in value:
        read = _message(turn, column)
        before = messages[-1] if messages else None
        # Words, then a call; or two calls at once: one turn of the assistant, which ShareGPT writes as two.
        if turn.get("from") == "function_call" and before is not None and before["role"] == "assistant":
            before["tool_calls"] = [*before.get("tool_calls", ()), *read["tool_calls"]]
        else:
            messages.append(read)
    return messages


def turns(value: Any, column: str) -> Turns:
    """Read text, one turn, or a list of turns."""
    if isinstance(value, str):
        return value
    return conversation([value] if isinstance(value, dict) else value, column)


def message(role: str, content: Any) -> Message:
    """One turn. Raises FormatError unless its content is text."""
    if not isinstance(content, str):
        raise FormatError(f"a {role} turn holds {type(content).__name__}, not text")
    return {"role": role, "content": content}


def _message(turn: Message, column: str) -> Message:
    key, said = ("from", "value") if "from" in turn else ("role", "content")
    if not isinstance(turn[key], str) or turn[key] not in ROLES:
        raise FormatError(f"`{column}` has {key}: {turn[key]!r}; known are {', '.join(ROLES)}")
    role, content = ROLES[turn[key]], turn.get(said)
    # Columns of parquet files hold every key for every turn; a key without a value was not there.
    rest = {name: value for name, value in turn.items() if name not in (key, said) and value not in (None, [])}
    calls = [*_listed(rest.pop("tool_calls", [])), *_listed(rest.pop("function_call", []))]
    if turn[key] == "function_call":
        calls, content = _listed(_parsed(content, "function_call")), ""
    if calls:
        rest["tool_calls"] = [_call(call) for call in calls]
    elif turn[key] == "function_call":
        raise FormatError(f"`{column}`: a function_call turn calls nothing")
    read = {"role": role, "content": _content(content, role, column)} | rest
    return _weighed(read, column)


def _content(content: Any, role: str, column: str) -> Any:
    """Text, or parts where some are images."""
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
        if odd := [part["type"] for part in content if part["type"] not in ("text", "image")]:
            raise FormatError(f"`{column}`: a {role} turn has a part of type {odd[0]!r}; text and image are read")
        if all(part["type"] == "text" for part in content):
            return "".join(str(part.get("text", "")) for part in content)
        return content
    if role == "tool" and isinstance(content, (dict, list)):  # an answer of a tool that was never made text
        return json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise FormatError(f"`{column}`: a {role} turn holds {type(content).__name__}, not text")
    return content


def _weighed(read: Message, column: str) -> Message:
    """The message with `weight: 0` where it is given and not learnt, and without any other word of it."""
    said = [read.pop(name) for name in _WEIGHTS if name in read]
    if read["role"] != "assistant":
        return read
    if odd := [weight for weight in said if weight not in (0, 1)]:
        raise FormatError(f"`{column}`: an assistant turn has weight {odd[0]!r}; 0 (not learnt) or 1 is due")
    return read | {"weight": 0} if 0 in said else read


def is_learnt(turn: Message) -> bool:
    """Whether a turn is an assistant's, and not there to be read only."""
    return turn["role"] == "assistant" and turn.get("weight") != 0


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parsed(value: Any, what: str) -> Any:
    """The value of a JSON text; what is no text as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{what}` is not JSON: {error}") from error


def _call(value: Any) -> dict[str, Any]:
    """{type, function: {name, arguments}}, with the arguments as a map, as chat templates want them."""
    inner = value.get("function", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise FormatError(f"a tool call must be {{name, arguments}}, not {json.dumps(value, default=str)[:80]}")
    arguments = inner.get("arguments")
    arguments = _parsed(arguments, f"arguments of {inner['name']}") if arguments not in (None, "") else {}
    if not isinstance(arguments, dict):
        raise FormatError(f"the arguments of {inner['name']} are a {type(arguments).__name__}; a map is due")
    given = {"id": value["id"]} if value.get("id") else {}
    return {"type": "function", "function": {"name": inner["name"], "arguments": arguments}} | given


def tools(record: Record) -> Tools:
    """The functions that a record offers, from a list or its JSON text; none where it offers none."""
    found = record.get("tools")
    if not found or not (isinstance(found, (str, list)) and (listed := _listed(_parsed(found or "[]", "tools")))):
        if found and not isinstance(found, (str, list)):
            raise FormatError(f"`tools` holds {type(found).__name__}; a list of functions, or its JSON text, is due")
        return []
    return [_tool(tool) for tool in listed if tool is not None]


def _tool(value: Any) -> dict[str, Any]:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise FormatError(f"`tools`: {json.dumps(value, default=str)[:80]}: no function with a name")
    return {"type": "function", "function": inner}


def linked(messages: Iterable[Message], known: int = 0) -> list[Message]:
    """The messages with what ShareGPT leaves out: calls get ids, a tool's answer the id and name of its call.

    known: calls that came before. Some templates print ids, and want them to have nine characters.
    """
    linked: list[Message] = []
    waiting: list[dict[str, Any]] = []
    for turn in messages:
        if calls := turn.get("tool_calls"):
            numbered = [{"id": f"call{known + i:05d}"} | call for i, call in enumerate(calls)]
            known += len(numbered)
            waiting = [*numbered]
            linked.append(turn | {"tool_calls": numbered})
        elif turn["role"] == "tool" and waiting:
            at = next((i for i, call in enumerate(waiting) if call["id"] == turn.get("tool_call_id")), 0)
            call = waiting.pop(at)
            linked.append({"tool_call_id": call["id"], "name": call["function"]["name"]} | turn)
        else:
            linked.append(turn)
    return linked


def calls_in(messages: Iterable[Message]) -> int:
    """How many tool calls the messages make."""
    return sum(len(turn.get("tool_calls", ())) for turn in messages)
