"""The peak of a step against torch's memory tracker on fake tensors: real models, adapters and losses, to 15 %."""

from __future__ import annotations

import pytest
from bench.plan.cases import CASES, Case

#: Further cases take a minute each: `make test-matrix` runs them.
QUICK = ["tiny rm ddp full", "tiny sft ddp full", "tiny sft zero lora", "tiny orpo ddp lora", "7B sft zero full"]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case.name in QUICK else pytest.mark.matrix, id=case.name) for case in CASES],
)
def test_the_peak_is_within_15_percent(case: Case) -> None:
    measured, ours = case.measured(), case.ours()
    assert ours == pytest.approx(measured, rel=0.15)


def test_the_quick_ones_exist() -> None:
    assert set(QUICK) <= {case.name for case in CASES}
