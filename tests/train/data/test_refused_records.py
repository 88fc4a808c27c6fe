"""Records that are refused, and columns that nobody would read: what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from alignlaunch.train.config import Stage
from alignlaunch.train.data.formats.preferences import preference
from alignlaunch.train.data.formats.readers import READERS
from alignlaunch.train.data.formats.reading import text
from alignlaunch.train.data.formats.sft import example
from alignlaunch.train.data.formats.turns import FormatError

from .turns import ANSWER, ASK, CALL, A, B, Q, S

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
