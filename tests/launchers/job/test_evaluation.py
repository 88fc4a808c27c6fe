"""When a job evaluates; the best checkpoint must be one that was evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile

from .job_files import write


def test_evaluation_defaults_need_validation_data(tmp_path: Path) -> None:
    assert "eval_steps" not in jobfile.load(write(tmp_path)).spec.train
    for override in ("data.validation=[v]", "data.validation_share=0.1"):
        assert jobfile.load(write(tmp_path), (override,)).spec.train["eval_steps"] == 50
    assert jobfile.load(write(tmp_path), ("train.eval_steps=7",)).spec.train["eval_steps"] == 7


@pytest.mark.parametrize(
    ("changes", "key", "remedy"),
    [
        ("data.validation=[]", "train.load_best_model_at_end", "name `data.validation`"),
        ("train.save_strategy=epoch", "train.eval_strategy", "`eval_strategy: epoch`"),
        ("train.eval_strategy=no train.save_strategy=no", "train.save_strategy", "`save_strategy: best`"),
        ("train.eval_strategy=no", "train.eval_strategy", "`eval_strategy: steps`"),
        ("train.save_strategy=best train.eval_strategy=no", "train.eval_strategy", "`eval_strategy: steps`"),
        ("train.save_steps=75", "train.save_steps", "a multiple of 50"),
        ("train.save_steps=0.5", "train.save_steps", "a multiple of 50"),
        ("train.eval_steps=0.5", "train.save_steps", "a multiple of 0.5"),
        ("train.save_only_model=true", "train.save_only_model", "remove it"),
    ],
)
def test_the_best_checkpoint_is_one_that_is_evaluated(tmp_path: Path, changes: str, key: str, remedy: str) -> None:
    """SFT evaluates every 50 steps, saves every 500 and has ZeRO-2, where the file is silent."""
    base = ("data.validation=[data]", "train.load_best_model_at_end=true")
    fine = (
        "train.save_strategy=best",
        "train.save_steps=0.4 train.eval_steps=0.1",
        "zero=0 train.save_only_model=true",
    )
    for more in ((), *(change.split() for change in fine)):
        assert jobfile.load(write(tmp_path), (*base, *more)).spec.train["load_best_model_at_end"]
    with pytest.raises(JobFileError) as caught:
        jobfile.load(write(tmp_path), (*base, *changes.split()))
    (found,) = caught.value.problems
    assert found.key == key
    assert remedy in found.remedy
