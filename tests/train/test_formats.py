"""Records in every accepted shape, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from alignlaunch.train.formats import Example, FormatError, Preference, example, preference, text

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
B = {"role": "assistant", "content": "b"}
S = {"role": "system", "content": "s"}
ASK = {"from": "human", "value": "q"}
ANSWER = {"from": "gpt", "value": "a"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"conversations": [ASK, ANSWER]}, Example([], [Q, A])),
        ({"conversations": [ASK, ANSWER], "system_prompt": "s"}, Example([], [S, Q, A])),
        ({"conversations": [ASK, ANSWER], "system_prompt": ""}, Example([], [Q, A])),
        (
            {"conversations": [{"from": "system", "value": "s"}, ASK, ANSWER], "system_prompt": "t"},
            Example([], [S, Q, A]),
        ),
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
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2}, Preference("p", "a", "b", 2.0)),
        (
            {"question": "q", "response_chosen": "a", "response_rejected": "b", "margin": -0.5},
            Preference([Q], [A], [B], -0.5),
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": None}, Preference("p", "a", "b", None)),
    ],
)
def test_preferences(record: dict[str, Any], expected: Preference) -> None:
    assert preference(record) == expected


def test_text() -> None:
    assert text({"text": " as it is\n", "id": 3}) == " as it is\n"


def test_words_may_be_missing_beside_a_tool_call() -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    assert example({"messages": [Q, called | {"content": None}, A]}) == Example([], [Q, called, A])


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": each} for each in texts]


def test_content_in_parts_is_left_to_the_template() -> None:
    asked = {"role": "user", "content": parts("look", "at")}
    assert example({"messages": [asked, A]}) == Example([], [asked, A])


@pytest.mark.parametrize(
    ("read", "record", "says"),
    [
        (text, {"txt": "x"}, ["columns found: txt; accepted: text"]),
        (text, {"text": " \n"}, ["`text` is empty"]),
        (text, {"text": ["x"]}, ["`text` holds list, not text"]),
        (example, {"conversations": [ASK, {"from": "gpt", "value": " "}]}, ["`conversations` has an empty assistant"]),
        (example, {"conversations": [ASK, {"from": ["gpt"], "value": "x"}]}, ["from: ['gpt']"]),
        (example, {"messages": [Q, {"role": "assistant", "content": ""}]}, ["`messages` has an empty assistant turn"]),
        (example, {"messages": [Q, {"role": "bot", "content": "a"}]}, ["`messages` has role: 'bot'; known are system"]),
        (example, {"messages": [Q, {"role": "assistant", "content": 3}]}, ["a assistant turn holds int, not text"]),
        (example, {"messages": [Q, {"role": "assistant", "content": ["a"]}]}, ["holds list, not text"]),
        (example, {"instruction": "q", "output": ""}, ["`output` is empty"]),
        (example, {"instruction": "q", "output": None}, ["`output` holds NoneType"]),
        (example, {"instruction": "", "output": "a"}, ["the question is empty"]),
        (
            preference,
            {"question": "q", "response_chosen": "a", "response_rejected": ""},
            ["`response_rejected` is empt"],
        ),
        (preference, {"question": "q", "response_chosen": "a", "response_rejected": "a"}, ["are the same"]),
        (preference, {"question": None, "response_chosen": "a", "response_rejected": "b"}, ["the question is empty"]),
        (preference, {"prompt": [Q], "chosen": [A], "rejected": [Q]}, ["`rejected` has no assistant turn"]),
        (preference, {"chosen": [Q, A], "rejected": [Q]}, ["is the beginning of the other"]),
        (preference, {"chosen": "the sky", "rejected": "the sky is"}, ["is the beginning of the other"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "margin": "1"}, ["`margin` is '1'"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "margin": float("nan")}, ["`margin` is nan"]),
        (example, {"text": "x", "id": 1}, ["columns found: text, id", "accepted: conversations"]),
        (example, {}, ["columns found: none"]),
        (example, {"conversations": [{"from": "robot", "value": "x"}]}, ["'robot'"]),
        (example, {"conversations": "hello"}, ["list of {from, value}"]),
        (example, {"conversations": [{"from": "human", "value": 3}]}, ["user turn holds int"]),
        (example, {"messages": [Q]}, ["no assistant turn"]),
        (example, {"messages": None}, ["must be text or a list"]),
        (example, {"prompt": "p", "completion": [A]}, ["all be text or all be lists"]),
        (example, {"prompt": "p", "completion": ""}, ["`completion` is empty"]),
        (example, {"instruction": ["q"], "output": "a"}, ["`instruction` holds list"]),
        (preference, {"prompt": "p", "chosen": "c"}, ["columns found: prompt, chosen", "response_rejected"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": ""}, ["`rejected` is empty"]),
        (preference, {"chosen": "same", "rejected": "same"}, ["`chosen` and `rejected` are the same"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": [B]}, ["all be text or all be lists"]),
        (
            preference,
            {"question": "q", "history": ["q"], "response_chosen": "a", "response_rejected": "b"},
            ["[question, answer] pairs"],
        ),
    ],
)
def test_what_is_refused(read: Any, record: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(FormatError) as error:
        read(record)
    assert all(part in str(error.value) for part in says), str(error.value)
