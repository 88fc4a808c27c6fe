"""`--set KEY=VALUE`: it wins over the file, and says its own place where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import jobfile

from .job_files import problems, write


def test_set_wins_over_the_file_and_says_its_own_place(tmp_path: Path) -> None:
    path = write(tmp_path, nnodes=2, train={"max_steps": 5, "learning_rate": 1e-4})
    loaded = jobfile.load(path, ("nnodes=3", "train.max_steps=7", "data.train=[a, b]", "lora=null", "env.A=1.10"))
    assert (loaded.spec.nnodes, loaded.spec.data.train, loaded.spec.lora) == (3, ["a", "b"], None)
    assert (loaded.spec.train["max_steps"], loaded.spec.train["learning_rate"]) == (7, 1e-4)
    assert loaded.env == {"A": "1.10"}
    assert problems(path, "train.max_steps=many") == [
        "--set train.max_steps=many train.max_steps a value of type int is expected"
    ]
    # A whole map that was replaced: nothing in it stands on the file's lines any more.
    assert problems(path, "train={max_steps: many}")[0].startswith("--set train={max_steps: many} train.max_steps")


@pytest.mark.parametrize("override", ["nnodes", "=3", "a b=3", "a..b=3", "data.train[0]=x", "-x=1"])
def test_an_override_that_is_not_key_value(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match="not KEY=VALUE"):
        jobfile.load(write(tmp_path), (override,))


@pytest.mark.parametrize("key", ["env.A", "model", "name"])
def test_an_override_that_is_not_utf_8(tmp_path: Path, key: str) -> None:
    """As Python hands on a byte of the command line that is none."""
    with pytest.raises(UsageError, match="not UTF-8 text"):
        jobfile.load(write(tmp_path), (f"{key}=caf\udce9",))
