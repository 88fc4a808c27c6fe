"""An example record of every format of every stage, for docs/data.md and the tests."""

from __future__ import annotations

import json
from typing import Any

from alignlaunch.train.config import Stage
from alignlaunch.train.data.formats.turns import Record

QUESTION, GOOD, BAD = "Is it warm in Paris?", "Yes, 24 °C.", "No idea."
SYSTEM = "Answer briefly."
ASK, ANSWER = {"from": "human", "value": QUESTION}, {"from": "gpt", "value": GOOD}
USER, ASSISTANT = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": GOOD}
WORSE = {"role": "assistant", "content": BAD}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Paris"}})}
SEEN = {"from": "observation", "value": '{"celsius": 24}'}
OPENAI_CALL = {
    "role": "assistant",
    "tool_calls": [
        {"id": "call00000", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    ],
}
OPENAI_SEEN = {"role": "tool", "tool_call_id": "call00000", "content": '{"celsius": 24}'}
OPENAI_TOOLS = [{"type": "function", "function": WEATHER}]

PREFERENCES: list[Record] = [
    {
        "system": SYSTEM,
        "history": [["Hello", "Hello! What would you like to know?"]],
        "question": QUESTION,
        "response_chosen": GOOD,
        "response_rejected": BAD,
    },
    {"system": SYSTEM, "question": QUESTION, "chosen": GOOD, "rejected": BAD},
    {"instruction": QUESTION, "input": "", "chosen": GOOD, "rejected": BAD},
    {"prompt": QUESTION, "chosen": f" {GOOD}", "rejected": f" {BAD}"},
    {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [WORSE]},
    {"prompt": QUESTION, "chosen": [USER, ASSISTANT], "rejected": [USER, WORSE]},
    {"conversations": [ASK], "chosen": GOOD, "rejected": {"from": "gpt", "value": BAD}},
    {"conversations": [ASK, CALL, SEEN], "chosen": GOOD, "rejected": BAD, "tools": json.dumps([WEATHER])},
    {"messages": [USER], "chosen": OPENAI_CALL, "rejected": WORSE, "tools": OPENAI_TOOLS},
    {"chosen": f"{QUESTION} {GOOD}", "rejected": f"{QUESTION} {BAD}"},
    {"chosen": [USER, ASSISTANT], "rejected": [USER, WORSE]},
]
SAMPLES: dict[Stage, list[Record]] = {
    "pt": [{"text": "Paris is the capital of France."}],
    "sft": [
        {"conversations": [{"from": "system", "value": SYSTEM}, ASK, ANSWER]},
        {"conversations": [ASK, CALL, SEEN, ANSWER], "tools": json.dumps([WEATHER])},
        {"messages": [{"role": "system", "content": SYSTEM}, USER, ASSISTANT]},
        {"messages": [USER, OPENAI_CALL, OPENAI_SEEN, ASSISTANT], "tools": OPENAI_TOOLS},
        {"prompt": QUESTION, "completion": f" {GOOD}"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {
            "instruction": QUESTION,
            "input": "",
            "output": GOOD,
            "system": SYSTEM,
            "history": [["Hello", "Hello! What would you like to know?"]],
        },
    ],
    "rm": [
        *PREFERENCES,
        {"prompt": QUESTION, "chosen": f" {GOOD}", "rejected": f" {BAD}", "margin": 1.5},
        {
            "prompt": QUESTION,
            "chosen": f" {GOOD}",
            "rejected": f" {BAD}",
            "safety_labels": {"chosen": 1, "rejected": -1},
        },
    ],
    "dpo": PREFERENCES,
    "orpo": PREFERENCES,
    "safe_dpo": [
        {
            "prompt": QUESTION,
            "chosen_response": GOOD,
            "rejected_response": BAD,
            "dimension": "helpful",
            "safety_labels": {"chosen": 1, "rejected": 1},
        },
        {
            "prompt": QUESTION,
            "response_0": BAD,
            "response_1": GOOD,
            "better_response_id": 1,
            "safer_response_id": 0,
            "is_response_0_safe": True,
            "is_response_1_safe": True,
        },
        {
            "prompt": [ASK],
            "response_0": [CALL, SEEN, ANSWER],
            "response_1": BAD,
            "better_response_id": 0,
            "is_response_0_safe": True,
            "is_response_1_safe": True,
            "tools": json.dumps([WEATHER]),
        },
    ],
}
#: Records that training must refuse, and what is said of each.
REFUSED: dict[Stage, list[tuple[Record, str]]] = {
    "pt": [({"text": "t", "messages": [USER, ASSISTANT]}, "`messages` has a meaning")],
    "sft": [
        ({"messages": [USER, ASSISTANT], "history": [["Hello", "Hello!"]]}, "`history` has a meaning"),
        ({"conversations": [ASK, CALL, SEEN, ANSWER], "tools": "{cut"}, "`tools` is not JSON"),
    ],
    "rm": [({"chosen": GOOD, "rejected": BAD, "conversation": [ASK]}, "`conversation` has a meaning")],
    "dpo": [
        ({"prompt": QUESTION, "chosen": GOOD, "rejected": BAD, "system": SYSTEM}, "`system` has a meaning"),
        ({"conversations": [ASK, ANSWER], "chosen": GOOD, "rejected": BAD}, "what is answered?"),
    ],
    "orpo": [({"chosen": [ASSISTANT], "rejected": [WORSE]}, "what is answered?")],
    "safe_dpo": [
        (
            {"prompt": QUESTION, "response_0": BAD, "response_1": GOOD, "better_response_id": 1, "input": "now"},
            "`input` has a meaning",
        )
    ],
}
