"""Which checkpoint a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.train import checkpoints
from alignlaunch.train.errors import UserError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two complete checkpoints, then one without its end and one that says it is incomplete."""
    for step in (5, 10, 20, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if step != 20:
            (folder / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-100" / checkpoints.INCOMPLETE).touch()
    return tmp_path


def test_the_last_complete_one_after_a_restart_or_when_asked(output: Path) -> None:
    assert checkpoints.choose(output, None, restart_count=1) == output / "checkpoint-10"
    assert checkpoints.choose(output, True, restart_count=0) == output / "checkpoint-10"
    assert checkpoints.choose(output, None, restart_count=0) is None
    assert checkpoints.choose(output, str(output / "checkpoint-5"), restart_count=1) == output / "checkpoint-5"


@pytest.mark.parametrize("name", ["checkpoint-20", "checkpoint-100", "checkpoint-7"])
def test_an_incomplete_one_is_refused(output: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a complete checkpoint"):
        checkpoints.choose(output, str(output / name), restart_count=0)


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert checkpoints.choose(tmp_path, None, restart_count=3) is None
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        checkpoints.choose(tmp_path, True, restart_count=0)


def test_a_fresh_run_moves_old_ones_away_and_loses_none(output: Path) -> None:
    aside = checkpoints.set_aside(output)
    assert aside is not None
    assert sorted(p.name for p in aside.iterdir()) == [f"checkpoint-{s}" for s in (10, 100, 20, 5)]
    assert checkpoints.choose(output, None, restart_count=1) is None
    assert checkpoints.set_aside(output) is None
