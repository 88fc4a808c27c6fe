"""bf16, else fp16, else fp32."""

from __future__ import annotations

from typing import Any

import pytest

from alignlaunch.train.model import precision


@pytest.mark.parametrize(
    ("train", "cuda", "bf16", "expected"),
    [
        ({}, True, True, "bf16"),
        ({"bf16": True}, True, True, "bf16"),
        ({"bf16": True}, True, False, "fp16"),
        ({"bf16": True}, False, False, "fp32"),
        ({"fp16": True}, True, True, "fp16"),
        ({"fp16": True}, False, False, "fp32"),
        ({"bf16": False}, True, True, "fp32"),
        ({}, False, False, "fp32"),
        ({}, False, True, "bf16"),
        ({"fp16": True}, False, True, "fp32"),
    ],
)
def test_choice(train: dict[str, Any], cuda: bool, bf16: bool, expected: str) -> None:
    chosen, why = precision.choose(train, cuda=cuda, bf16_supported=bf16)
    assert chosen == expected
    assert expected in why
