"""Records in every accepted shape, and what is said of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignlaunch.train.config import Stage
from alignlaunch.train.data.formats.preferences import Preference, preference
from alignlaunch.train.data.formats.readers import READERS
from alignlaunch.train.data.formats.reading import text
from alignlaunch.train.data.formats.safety import safe_preference
from alignlaunch.train.data.formats.sft import Example, example
from alignlaunch.train.data.formats.turns import FormatError

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


# --- tools ---

SCHEMA = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "properties": {}}}
WORDS = {"from": "gpt", "value": "I look."}
CALL = {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Paris"}})}
SEEN = {"from": "observation", "value": "sunny"}
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


# --- what nobody would read ---

TALK = [ASK, ANSWER]
GOOD: dict[Stage, dict[str, Any]] = {
    "pt": {"text": "t"},
    "sft": {"prompt": "p", "completion": "c"},
    "rm": {"question": "p", "chosen": "a", "rejected": "b"},
    "dpo": {"prompt": "p", "chosen": "a", "rejected": "b"},
    "orpo": {"prompt": [Q], "chosen": [A], "rejected": [B]},
    "safe_dpo": {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 1},
}


@pytest.mark.parametrize("stage", GOOD)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("conversation", TALK), ("dialogue", [Q, A]), ("trajectory", TALK), ("query", "which?"), ("context", "x")),
        *(("instructions", "do"), ("inputs", "x"), ("videos", ["a.mp4"]), ("label", False)),
    ],
)
def test_a_column_with_meaning_is_never_left_out(stage: Stage, name: str, value: Any) -> None:
    with pytest.raises(FormatError, match=rf"^`{name}` has a meaning but would be ignored; .*columns: \[{name}\]"):
        READERS[stage](GOOD[stage] | {name: value})


@pytest.mark.parametrize(
    ("read", "record", "name"),
    [
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "system": "s"}, "system"),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "history": [["q", "a"]]}, "history"),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "tools": "[{}]"}, "tools"),
        (preference, {"prompt": [Q], "chosen": [A], "rejected": [B], "question": "other"}, "prompt"),
        (preference, {"question": "q", "chosen": "a", "rejected": "b", "input": "x"}, "input"),
        (example, {"messages": [Q, A], "history": [["x", "y"]]}, "history"),
        (example, {"prompt": "p", "completion": "a", "system": "s"}, "system"),
        (example, {"instruction": "q", "output": "a", "prompt": "other"}, "prompt"),
        (example, {"messages": [Q, A], "label": True}, "label"),
        (text, {"text": "t", "image": "a.png"}, "image"),
        (text, {"text": "t", "prompt": "p"}, "prompt"),
    ],
)
def test_nor_one_that_only_another_format_reads(read: Any, record: dict[str, Any], name: str) -> None:
    with pytest.raises(FormatError, match=rf"^`{name}` has a meaning but would be ignored"):
        read(record)
    assert read({column: value for column, value in record.items() if column != name})


@pytest.mark.parametrize("stage", GOOD)
def test_columns_about_the_record_are_no_matter(stage: Stage) -> None:
    about = {"id": 3, "source": "x", "score": 0.5, "label": 2, "meta": {"a": [1]}, "history": [], "input": ""}
    assert READERS[stage](GOOD[stage] | about) == READERS[stage](GOOD[stage])


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
        (example, {"instruction": "q", "output": None}, ["output (null)"]),
        (example, {"messages": [Q, A | {"weight": 0.5}]}, ["weight 0.5"]),
        (example, {"messages": [Q, A | {"weight": 0}]}, ["weight 0: there is nothing to learn"]),
        (example, {"conversations": [ASK, ANSWER], "system": "s", "system_prompt": "t"}, ["differ"]),
        (example, {"conversations": [S, ASK, ANSWER], "system_prompt": "t"}, ["begins with another system prompt"]),
        (example, {"conversations": [ASK, CALL | {"value": "{cut"}]}, ["`function_call` is not JSON"]),
        (example, {"conversations": [ASK, CALL | {"value": "[]"}]}, ["calls nothing"]),
        (example, {"conversations": [ASK, CALL | {"value": '{"x": 1}'}]}, ["must be {name, arguments"]),
        (
            example,
            {"messages": [Q, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}]},
            ["arguments of f are a list"],
        ),
        (example, {"messages": [Q, A], "tools": "{cut"}, ["`tools` is not JSON"]),
        (example, {"messages": [Q, A], "tools": {"f": 1}}, ["`tools` holds dict"]),
        (example, {"messages": [Q, A], "tools": [{"type": "browser"}]}, ["not a function with a name"]),
        (example, {"messages": [Q | {"content": [{"type": "image_url"}]}, A]}, ["a part of type 'image_url'"]),
        (example, {"messages": [Q | {"content": [{"type": "image"}]}, A]}, ["names no file of it in `images`"]),
        (preference, {"chosen": [A], "rejected": [B]}, ["what is answered?"]),
        (preference, {"chosen": A, "rejected": B}, ["what is answered?"]),
        (preference, {"conversations": [ASK, ANSWER], "chosen": "a", "rejected": "b"}, ["what is answered?"]),
        (preference, {"conversations": [ASK], "chosen": [Q], "rejected": "b"}, ["`chosen` has no assistant turn"]),
        (preference, {"prompt": [Q], "chosen": [S, Q, A], "rejected": [B]}, ["continues with a system turn"]),
        (preference, {"prompt": "other", "chosen": [Q, A], "rejected": [Q, B]}, ["`prompt` differs from the question"]),
        (example, {"instruction": "", "output": "a"}, ["the question is empty"]),
        (
            preference,
            {"question": "q", "response_chosen": "a", "response_rejected": ""},
            ["`response_rejected` is empt"],
        ),
        (preference, {"question": "q", "response_chosen": "a", "response_rejected": "a"}, ["are the same"]),
        (preference, {"question": None, "response_chosen": "a", "response_rejected": "b"}, ["question (null)"]),
        (preference, {"prompt": [Q], "chosen": [A], "rejected": [Q]}, ["`rejected` has no assistant turn"]),
        (preference, {"chosen": [Q, A], "rejected": [Q]}, ["is the beginning of the other"]),
        (preference, {"chosen": "the sky", "rejected": "the sky is"}, ["is the beginning of the other"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "margin": "1"}, ["`margin` is '1'"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "margin": float("nan")}, ["`margin` is nan"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": "b", "safety_labels": [1, 1]}, ["must be {chosen: 1"]),
        (
            preference,
            {"prompt": "p", "chosen": "a", "rejected": "b", "safety_labels": {"chosen": 1, "rejected": 0}},
            ["`safety_labels.rejected` is 0; expected 1 (safe) or -1"],
        ),
        (example, {"text": "x", "id": 1}, ["columns found: text, id", "accepted: conversations"]),
        (example, {}, ["columns found: none"]),
        (example, {"conversations": [{"from": "robot", "value": "x"}]}, ["'robot'"]),
        (example, {"conversations": "hello"}, ["{from, value} turns"]),
        (example, {"conversations": [{"from": "human", "value": 3}]}, ["user turn holds int"]),
        (example, {"messages": [Q]}, ["no assistant turn"]),
        (example, {"messages": None}, ["messages (null)"]),
        (example, {"prompt": "p", "completion": [A]}, ["both be text or both be lists"]),
        (example, {"prompt": "p", "completion": ""}, ["`completion` is empty"]),
        (example, {"instruction": ["q"], "output": "a"}, ["`instruction` holds list"]),
        (preference, {"prompt": "p", "chosen": "c"}, ["columns found: prompt, chosen", "response_rejected"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": ""}, ["`rejected` is empty"]),
        (preference, {"chosen": "same", "rejected": "same"}, ["`chosen` and `rejected` are the same"]),
        (preference, {"prompt": "p", "chosen": "a", "rejected": [B]}, ["both be text or both be lists"]),
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
