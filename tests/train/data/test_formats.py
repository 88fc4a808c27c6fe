"""Records of every accepted shape, and what they are read as."""

from __future__ import annotations

from typing import Any

import pytest

from alignlaunch.train.data.formats.preferences import Preference, preference
from alignlaunch.train.data.formats.reading import text
from alignlaunch.train.data.formats.sft import Example, example

from .turns import ANSWER, ASK, A, B, Q, S


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"conversations": [ASK, ANSWER]}, Example([], [Q, A])),
        ({"conversations": [ASK, ANSWER], "system_prompt": "s"}, Example([], [S, Q, A])),
        ({"conversations": [ASK, ANSWER], "system_prompt": ""}, Example([], [Q, A])),
        ({"conversations": [{"from": "system", "value": "s"}, ASK, ANSWER], "system": "s"}, Example([], [S, Q, A])),
        ({"conversations": [Q, A], "system": "s", "tools": "[]", "history": []}, Example([], [S, Q, A])),
        ({"messages": [Q, A | {"weight": 0}, Q, A | {"weight": 1}]}, Example([], [Q, A | {"weight": 0}, Q, A])),
        ({"prompt": "a long question", "completion": "a long question answer"}, Example("a long question", " answer")),
        ({"prompt": "a", "completion": "apple"}, Example("a", "apple")),
        ({"prompt": [S, Q], "completion": [S, Q, A]}, Example([S, Q], [A])),
        # Copies of what is read, as UltraChat and Magpie have them.
        ({"prompt": "q", "prompt_id": "0", "messages": [Q, A]}, Example([], [Q, A])),
        ({"conversations": [ASK, ANSWER], "instruction": "q", "response": "a"}, Example([], [Q, A])),
        ({"messages": [S, Q, A, Q, A]}, Example([], [S, Q, A, Q, A])),
        ({"messages": [Q, A | {"tool_calls": None}]}, Example([], [Q, A])),
        ({"prompt": "p", "completion": "c"}, Example("p", "c")),
        ({"prompt": [Q], "completion": [A]}, Example([Q], [A])),
        ({"instruction": "q", "output": "a"}, Example([Q], [A])),
        ({"instruction": "q", "input": "", "output": "a", "system": "s"}, Example([S, Q], [A])),
        ({"instruction": "i", "input": "x", "output": "a"}, Example([{"role": "user", "content": "i\nx"}], [A])),
        ({"instruction": "q", "output": "a", "history": [["q", "b"]]}, Example([Q, B, Q], [A])),
    ],
)
def test_sft(record: dict[str, Any], expected: Example) -> None:
    assert example(record) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"system": "s", "history": [["q", "a"]], "question": "q", "response_chosen": "a", "response_rejected": "b"},
            Preference([S, Q, A, Q], [A], [B]),
        ),
        (
            {"system": "", "history": [], "question": "q", "response_chosen": "a", "response_rejected": "b"},
            Preference([Q], [A], [B]),
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, Preference("p", "a", "b")),
        ({"prompt": [Q], "chosen": [A], "rejected": [B]}, Preference([Q], [A], [B])),
        ({"prompt": [Q], "chosen": "a", "rejected": "b"}, Preference([Q], [A], [B])),
        ({"chosen": [Q, A], "rejected": [Q, B]}, Preference([Q], [A], [B])),
        ({"prompt": "q", "chosen": [Q, A], "rejected": [Q, B]}, Preference([Q], [A], [B])),
        ({"chosen": "the sky is blue", "rejected": "the sky is green"}, Preference("the sky is", " blue", " green")),
        *(
            ({"conversations": [ASK, ANSWER, ASK], **pair}, Preference([Q, A, Q], [A], [B]))
            for pair in (
                {"chosen": "a", "rejected": "b"},
                {"chosen": ANSWER, "rejected": {"from": "gpt", "value": "b"}},
                {"chosen": [A], "rejected": [B]},
                {"chosen": [Q, A, Q, A], "rejected": [Q, A, Q, B]},
                {"chosen": [ASK, ANSWER], "rejected": [Q, B]},
            )
        ),
        ({"messages": [Q], "chosen": A, "rejected": B, "system": "s"}, Preference([S, Q], [A], [B])),
        ({"question": "q", "system": "s", "chosen": "a", "rejected": "b"}, Preference([S, Q], [A], [B])),
        (
            {"instruction": "i", "input": "x", "history": [["q", "a"]], "chosen": "a", "rejected": "b"},
            Preference([Q, A, {"role": "user", "content": "i\nx"}], [A], [B]),
        ),
        ({"prompt": "q", "chosen": [A], "rejected": [B]}, Preference([Q], [A], [B])),
        ({"prompt": "q", "chosen": A, "rejected": B, "system": "s"}, Preference([S, Q], [A], [B])),
        ({"prompt": [Q], "chosen": [Q, A], "rejected": [Q, B]}, Preference([Q], [A], [B])),
        ({"prompt": [S, Q], "chosen": [Q, A], "rejected": [S, Q, B]}, Preference([S, Q], [A], [B])),
        (
            {"prompt": "a question", "chosen": "a question a", "rejected": "a question b"},
            Preference("a question", " a", " b"),
        ),
        ({"prompt": "a", "chosen": "apple", "rejected": "apricot"}, Preference("a", "apple", "apricot")),
        # UltraFeedback: the question as text, and the chosen conversation once more.
        (
            {"prompt": "q", "messages": [Q, A], "chosen": [Q, A], "rejected": [Q, B], "score_chosen": 1.0},
            Preference([Q], [A], [B]),
        ),
        ({"messages": [Q, A], "chosen": [Q, A], "rejected": [Q, B]}, Preference([Q], [A], [B])),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2}, Preference("p", "a", "b", 2.0)),
        (
            {"question": "q", "response_chosen": "a", "response_rejected": "b", "margin": -0.5},
            Preference([Q], [A], [B], -0.5),
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": None}, Preference("p", "a", "b", None)),
        (
            {"prompt": "p", "chosen": "a", "rejected": "b", "safety_labels": {"chosen": 1, "rejected": -1}},
            Preference("p", "a", "b", safe=(True, False)),
        ),
        (
            {"prompt": [Q], "chosen": [A], "rejected": [B], "safety_labels": {"chosen": None, "rejected": 1}},
            Preference([Q], [A], [B], safe=(None, True)),
        ),
    ],
)
def test_preferences(record: dict[str, Any], expected: Preference) -> None:
    assert preference(record) == expected


def test_text() -> None:
    assert text({"text": " as it is\n", "id": 3}) == " as it is\n"


def test_words_may_be_missing_beside_a_tool_call() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    turn = example({"messages": [Q, called, A]}).completion[1]
    assert isinstance(turn, dict)
    assert turn["content"] == ""
    assert turn["tool_calls"][0]["function"] == {"name": "f", "arguments": {}}


def test_parts_that_are_all_text_are_a_text() -> None:
    """Templates that want a text would print the list."""
    asked = {"role": "user", "content": [{"type": "text", "text": each} for each in ("look", "at")]}
    assert example({"messages": [asked, A]}).completion == [{"role": "user", "content": "lookat"}, A]
