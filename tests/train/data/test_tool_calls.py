"""Tool calls: in either spelling they are read as the same, and numbered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignlaunch.train.data.formats.preferences import preference
from alignlaunch.train.data.formats.safety import safe_preference
from alignlaunch.train.data.formats.sft import example

from .turns import ANSWER, ASK, CALL, SEEN, A, B, Q

SCHEMA = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "properties": {}}}
WORDS = {"from": "gpt", "value": "I look."}
OPENAI = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
OPENAI_SEEN = {"role": "tool", "content": "sunny"}
ID = "call00000"


@pytest.mark.parametrize(
    ("sharegpt", "openai"),
    [
        ([CALL, SEEN], [{"role": "assistant", "tool_calls": [OPENAI]}, OPENAI_SEEN]),
        (
            [WORDS, CALL, SEEN],
            [
                {"role": "assistant", "content": "I look.", "tool_calls": [OPENAI | {"id": ID}]},
                OPENAI_SEEN | {"tool_call_id": ID},
            ],
        ),
        (
            [CALL | {"value": json.dumps([json.loads(CALL["value"])] * 2)}, SEEN, SEEN],
            [{"role": "assistant", "content": "", "tool_calls": [OPENAI] * 2}, OPENAI_SEEN, OPENAI_SEEN],
        ),
        ([CALL, CALL, SEEN], [{"role": "assistant", "tool_calls": [OPENAI] * 2}, OPENAI_SEEN]),
        (
            [CALL, {"from": "observation", "value": {"sky": "blue"}}],
            [
                {"role": "assistant", "function_call": OPENAI["function"]},
                {"role": "function", "name": "weather", "content": '{"sky": "blue"}'},
            ],
        ),
    ],
)
def test_tool_calls_in_either_spelling_are_the_same(sharegpt: list[Any], openai: list[Any]) -> None:
    """In every stage, and `tools` as JSON text or list."""
    listed, text = [{"type": "function", "function": SCHEMA}], json.dumps([SCHEMA])
    first = example({"conversations": [ASK, *sharegpt, ANSWER], "tools": text})
    assert first == example({"messages": [Q, *openai, A], "tools": listed})
    assert first.tools == listed
    pair = preference({"conversations": [ASK, *sharegpt], "chosen": "a", "rejected": "b", "tools": [SCHEMA]})
    assert pair == preference({"prompt": [Q, *openai], "chosen": [A], "rejected": [B], "tools": json.dumps(listed)})
    assert (pair.prompt, pair.tools) == (first.completion[:-1], listed)
    answers = preference({"messages": [Q], "chosen": [*sharegpt, ANSWER], "rejected": "b", "tools": listed})
    assert answers == preference({"question": "q", "chosen": [*openai, A], "rejected": B, "tools": text})
    safe = {"better_response_id": 0, "tools": text, "response_1": "b"}
    one = safe_preference(safe | {"prompt": "q", "response_0": [*sharegpt, ANSWER]})
    assert one == safe_preference(safe | {"prompt": [ASK], "response_0": [*openai, A]})
    assert (one.response_a, one.tools) == (answers.chosen, listed)


def test_calls_are_numbered_through_prompt_and_answer() -> None:
    found = preference({"conversations": [ASK, CALL, SEEN], "chosen": [CALL], "rejected": "b"})
    assert isinstance(found.prompt, list)
    assert isinstance(found.chosen, list)
    assert [turn["tool_calls"][0]["id"] for turn in (found.prompt[1], found.chosen[0])] == [ID, "call00001"]
    assert found.prompt[2] == {"role": "tool", "content": "sunny", "tool_call_id": ID, "name": "weather"}
