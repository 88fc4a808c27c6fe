"""Keys changed in the text of a YAML file: these keys alone, and nothing is lost."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.job import edit, yamlfile
from alignlaunch.launchers.job.edit import EditError

FILE = """\
# A job.
name: a  # its name
zero: 2   # by hand
train:
  # How fast.
  learning_rate: 2e-5  # as in the paper
  per_device_train_batch_size: 1

  bf16: true
# The end.
"""


def changed(text: str, **settings: Any) -> str:
    return edit.changed(text, "job.yaml", {tuple(key.split("__")): value for key, value in settings.items()})


def test_values_keep_their_comments_and_new_keys_stand_behind_the_last() -> None:
    done = changed(
        FILE, zero=3, train__per_device_train_batch_size=4, train__gradient_accumulation_steps=2, offload="none"
    )
    assert done == (
        FILE.replace("zero: 2 ", "zero: 3 ")
        .replace("zero: 3   # by hand\n", "zero: 3   # by hand\noffload: none\n")
        .replace("size: 1", "size: 4")
        .replace("bf16: true\n", "bf16: true\n  gradient_accumulation_steps: 2\n")
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: {b: 1} # c\n", "a: {b: 2, c: 3} # c\n"),
        ("a: {}\n", "a: {b: 2, c: 3}\n"),
        ("{a: {b: 1}}\n", "{a: {b: 2, c: 3}}\n"),
        ("a:\n    b: 1", "a:\n    b: 2\n    c: 3\n"),
        ("a:\n  b: 1 # c", "a:\n  b: 2 # c\n  c: 3\n"),
        ("a:\r\n  b: 1\r\nd: 4\r\n", "a:\r\n  b: 2\r\n  c: 3\r\nd: 4\r\n"),
        ("d: 4", "d: 4\na:\n  b: 2\n  c: 3\n"),
        ("d: {e: 1}", "d: {e: 1}\na:\n  b: 2\n  c: 3\n"),
        ("a:\n  b:  # nothing\n", "a:\n  b: 2  # nothing\n  c: 3\n"),
        ("a:\n  d:\n    - 1\n    - 2\n  b: 1\n", "a:\n  d:\n    - 1\n    - 2\n  b: 2\n  c: 3\n"),
        ("a:\n  d:\n    - 1\n    - 2\n", "a:\n  b: 2\n  c: 3\n  d:\n    - 1\n    - 2\n"),
        ("a: {\"é\": 1, b: '1'}\n", 'a: {"é": 1, b: 2, c: 3}\n'),
        ("---\na: {b: 1}\n...\n", "---\na: {b: 2, c: 3}\n...\n"),
    ],
)
def test_every_style(before: str, after: str) -> None:
    found = changed(before, a__b=2, a__c=3)
    assert (found, yamlfile.parse(found, "").data["a"]["b"]) == (after, 2)


@pytest.mark.parametrize(
    "text",
    [
        "x: &anchor {b: 1}\na: *anchor\n",
        "a: 1\n",
        "a:\n",
        "a: [1]\n",
        "a:\n  b: |\n    1\n",
        "a:\n  b:\n    c: 1\n",
    ],
)
def test_where_it_cannot_be_done_alone_it_is_not_done(text: str) -> None:
    with pytest.raises(EditError):
        changed(text, a__b=2)


SCALARS = st.integers(-5, 5) | st.booleans() | st.text("ab #:'\"é\t", max_size=6) | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=3), inner, max_size=3)
    ),
)
TRAIN = st.dictionaries(st.sampled_from("bcd"), VALUES, max_size=3)
FILES = st.fixed_dictionaries({"name": SCALARS}, optional={"zero": SCALARS, "other": VALUES, "train": TRAIN})
FLOW = st.sampled_from([True, False, None])


@given(data=FILES, flow=FLOW, value=st.integers(0, 9), sort=st.booleans())
def test_any_file_has_these_keys_then_and_all_others_as_before(
    data: Any, flow: bool | None, value: int, *, sort: bool
) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow, sort_keys=sort, allow_unicode=True)
    lines = text.splitlines(keepends=True)
    if flow is False and "\n\n" not in text:
        text = "".join(f"# {i}\n{line}" if line[:1].isalpha() else line for i, line in enumerate(lines))
    expected = deepcopy(yamlfile.parse(text, "").data)
    expected["zero"] = expected.setdefault("train", {})["b"] = value
    try:
        found = changed(text, zero=value, train__b=value)
    except EditError:
        assert not isinstance(data.get("zero"), int) or not isinstance(data.get("train", {}).get("b", 1), int)
        return
    assert yamlfile.parse(found, "").data == expected
    assert [line for line in found.splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]


def test_a_json_file_stays_readable() -> None:
    found = changed(json.dumps({"train": {"a": 1}}, indent=1), zero=1, train__b="optimizer+param")
    assert yamlfile.parse(found, "").data == {"train": {"a": 1, "b": "optimizer+param"}, "zero": 1}
