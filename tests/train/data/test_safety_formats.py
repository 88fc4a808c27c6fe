"""Safe-DPO records in every accepted shape, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from alignlaunch.train.data.formats.safety import SafePreference, safe_preference
from alignlaunch.train.data.formats.turns import FormatError

PROMPT = [{"role": "user", "content": "q"}]
A, B = [{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]
PAIR = {
    "prompt": "q",
    "chosen_response": "a",
    "rejected_response": "b",
    "safety_labels": {"chosen": 1, "rejected": -1},
}
PKU = {
    "prompt": "q",
    "response_0": "a",
    "response_1": "b",
    "better_response_id": 1,
    "safer_response_id": 0,
    "is_response_0_safe": True,
    "is_response_1_safe": False,
}


@pytest.mark.parametrize(
    ("record", "judged"),
    [
        (PAIR, (0, 0, (True, False), None)),
        (PAIR | {"dimension": "helpful", "category": "fraud"}, (0, 0, (True, False), "fraud")),
        (PAIR | {"safety_labels": {"chosen": -1, "rejected": 1}}, (0, 1, (False, True), None)),
        (PAIR | {"safety_labels": {"chosen": -1, "rejected": -1}}, (0, None, (False, False), None)),
        (
            PAIR | {"dimension": "harmless", "safety_labels": {"chosen": -1, "rejected": -1}},
            (None, 0, (False, False), None),
        ),
        (PKU, (1, 0, (True, False), None)),
        (PKU | {"is_response_0_safe": None, "is_response_1_safe": None}, (1, 0, (None, None), None)),
        (PKU | {"safer_response_id": None, "better_response_id": None}, (None, 0, (True, False), None)),
        (
            PKU
            | {
                "response_0_harm_category": {"Privacy": False, "Fraud": False, "Theft": True},
                "response_1_harm_category": {"Privacy": False, "Fraud": True, "Theft": False},
            },
            (1, 0, (True, False), "Fraud"),
        ),
    ],
)
def test_accepted(record: dict[str, Any], judged: tuple[Any, ...]) -> None:
    assert safe_preference(record) == SafePreference(PROMPT, A, B, *judged)


def test_system_and_history_come_before_the_prompt() -> None:
    found = safe_preference(PKU | {"system": "s", "history": [["q1", "a1"]]})
    assert [turn["content"] for turn in found.prompt if isinstance(turn, dict)] == ["s", "q1", "a1", "q"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "columns found: prompt, chosen, rejected; accepted: "),
        (PAIR | {"prompt": " "}, "the question is empty"),
        (PAIR | {"chosen_response": ""}, "`chosen_response` is empty"),
        (PAIR | {"rejected_response": "a"}, "`chosen_response` and `rejected_response` are the same"),
        (PAIR | {"rejected_response": 3}, "`rejected_response` must be text or a list"),
        (PAIR | {"safety_labels": [1, -1]}, "`safety_labels` must be {chosen"),
        (PAIR | {"safety_labels": {"chosen": 1, "rejected": 0}}, "`safety_labels.rejected` is 0"),
        (PAIR | {"safety_labels": {"chosen": True, "rejected": -1}}, "`safety_labels.chosen` is True"),
        (PAIR | {"dimension": "style"}, "`dimension` is 'style'; known are helpful"),
        (PKU | {"response_1": "a"}, "`response_0` and `response_1` are the same"),
        (PKU | {"better_response_id": 2}, "`better_response_id` is 2; expected 0 or 1"),
        (PKU | {"is_response_0_safe": "yes"}, "`is_response_0_safe` is 'yes'; expected true or false"),
        (PKU | {"response_0_harm_category": ["Fraud"]}, "must be maps of true and false"),
        ({"prompt": "q", "response_0": "a", "response_1": "b"}, "no label says which response"),
    ],
)
def test_refused(record: dict[str, Any], says: str) -> None:
    with pytest.raises(FormatError) as error:
        safe_preference(record)
    assert says in str(error.value)
