"""Conversation turns in every accepted spelling, read into one: messages as chat templates take them. No torch here.

ShareGPT's {from, value} with `function_call` and `observation` is equivalent to OpenAI's {role, content} with
`tool_calls` and role `tool`.
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

#: The speaker's name in each spelling, and its role.
ROLES = {
    **{name: name for name in ("system", "developer", "user", "assistant", "tool")},
    **{"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool", "function": "tool"},
}
#: Keys by which an assistant turn says whether it is learnt (OpenAI, Axolotl, ms-swift).
_WEIGHTS = ("weight", "train", "loss")


class FormatError(ValueError):
    """A record that cannot be read. The message says which rule it breaks."""


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
        # ShareGPT writes text followed by a call, or two parallel calls, as two turns: they are one assistant turn.
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
    # In parquet files every turn has every key: one without a value was absent from the original turn.
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
    """The content as text, or as a list of parts if some are images."""
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
        if odd := [part["type"] for part in content if part["type"] not in ("text", "image")]:
            raise FormatError(f"`{column}`: a {role} turn has a part of type {odd[0]!r}; only text and image are read")
        if all(part["type"] == "text" for part in content):
            return "".join(str(part.get("text", "")) for part in content)
        return content
    if role == "tool" and isinstance(content, (dict, list)):  # a tool's result that is not serialised
        return json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise FormatError(f"`{column}`: a {role} turn holds {type(content).__name__}, not text")
    return content


def _weighed(read: Message, column: str) -> Message:
    """The message with `weight: 0` if it is an assistant turn not to be learnt, and without all other such keys."""
    said = [read.pop(name) for name in _WEIGHTS if name in read]
    if read["role"] != "assistant":
        return read
    if odd := [weight for weight in said if weight not in (0, 1)]:
        raise FormatError(f"`{column}`: an assistant turn has weight {odd[0]!r}; expected 0 (not learnt) or 1")
    return read | {"weight": 0} if 0 in said else read


def is_learnt(turn: Message) -> bool:
    """Whether a turn is to be learnt: an assistant turn that does not have weight 0."""
    return turn["role"] == "assistant" and turn.get("weight") != 0


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parsed(value: Any, what: str) -> Any:
    """The value of a JSON text; a value that is not text as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{what}` is not JSON: {error}") from error


def _call(value: Any) -> dict[str, Any]:
    """A tool call as chat templates take it: {type, function: {name, arguments}}, with the arguments as a map."""
    inner = value.get("function", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise FormatError(f"a tool call must be {{name, arguments}}, not {json.dumps(value, default=str)[:80]}")
    arguments = inner.get("arguments")
    arguments = _parsed(arguments, f"arguments of {inner['name']}") if arguments not in (None, "") else {}
    if not isinstance(arguments, dict):
        raise FormatError(f"the arguments of {inner['name']} are a {type(arguments).__name__}; expected a map")
    given = {"id": value["id"]} if value.get("id") else {}
    return {"type": "function", "function": {"name": inner["name"], "arguments": arguments}} | given


def tools(record: Record) -> Tools:
    """The functions that a record offers, from a list or its JSON text; empty if it offers none."""
    found = record.get("tools")
    if not found or not (isinstance(found, (str, list)) and (listed := _listed(_parsed(found or "[]", "tools")))):
        if found and not isinstance(found, (str, list)):
            raise FormatError(f"`tools` holds {type(found).__name__}; expected a list of functions or its JSON text")
        return []
    return [_tool(tool) for tool in listed if tool is not None]


def _tool(value: Any) -> dict[str, Any]:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise FormatError(f"`tools`: {json.dumps(value, default=str)[:80]}: not a function with a name")
    return {"type": "function", "function": inner}


def linked(messages: Iterable[Message], known: int = 0) -> list[Message]:
    """The messages with what ShareGPT leaves out: an id for each call; for a tool's result the id and name of its call.

    known: how many calls came before. Ids have nine characters, because some templates print them and demand that.
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
    """The number of tool calls in the messages."""
    return sum(len(turn.get("tool_calls", ())) for turn in messages)
