"""A short part of `make fuzz`, the same inputs each time."""

from __future__ import annotations

import pytest

from . import importing, jobs, records, scheduler, training
from .target import Target

ALL: dict[str, Target] = {
    **jobs.TARGETS,
    **scheduler.TARGETS,
    **records.TARGETS,
    **training.TARGETS,
    **importing.TARGETS,
}


@pytest.mark.parametrize("name", ALL)
def test_no_input_does_harm(name: str) -> None:
    assert ALL[name].run(25, seed=True)
