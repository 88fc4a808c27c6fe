"""What a name of several runs means to `export` and `eval`."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers import trained
from alignlaunch.launchers.errors import UsageError

from .stub_steps import call, write_steps
from .test_sweeps import write_job


@pytest.fixture(autouse=True)
def _record(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))


def test_a_pipeline_s_name_means_its_last_job(place: Path) -> None:
    write_steps(place, "0", "0")
    for step in "ab":
        (place / step).mkdir()
        (place / step / "config.json").touch()
    call(place, "local", "chain.yaml", "--cluster", "stub")
    assert trained.find("chain").folder == place / "b"
    assert trained.find("last").folder == place / "b"
    assert trained.find("chain-a").folder == place / "a"


def test_a_sweep_s_name_means_none_of_its_points(place: Path) -> None:
    write_job(place, sweep={"over": {"env.ACT": [0, "00"]}})
    call(place, "local", "job.yaml", "--cluster", "stub")
    with pytest.raises(UsageError, match=r"(?s)tiny: a sweep\n.*name one of its points: tiny\+ACT0, tiny\+ACT-00"):
        trained.find("tiny")
