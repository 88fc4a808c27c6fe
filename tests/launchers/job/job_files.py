"""Job files and cluster profiles as tests write them, and what loading one says is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile
from tests.conftest import MINIMAL

#: What a stage needs besides the shortest job file.
NEEDED = {
    "safe_dpo": ("train.helpful_reward_model=models/helpful_rm", "train.harmless_reward_model=models/harmless_rm")
}
EXAMPLE = Path(__file__).parents[2] / "goldens" / "jobs" / "qwen3-orpo.yaml"


def write(folder: Path, text: str = MINIMAL, **more: Any) -> Path:
    """A job file in `folder`: `text`, and keys of their own lines after it."""
    path = folder / "job.yaml"
    path.write_text(text + "".join(f"{key}: {json.dumps(value)}\n" for key, value in more.items()))
    return path


def problems(path: Path, *overrides: str, cluster: str | None = None) -> list[str]:
    """ "place key rule" of every problem, places without the folder."""
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path, overrides, cluster)
    assert all(problem.remedy for problem in caught.value.problems)
    return [f"{p.place.removeprefix(f'{path.parent}/')} {p.key} {p.rule}" for p in caught.value.problems]


def problem(path: Path, *overrides: str) -> tuple[str, str]:
    """(rule, remedy) of the one problem there is."""
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path, overrides)
    (only,) = caught.value.problems
    return only.rule, only.remedy


def profile(folder: Path, **keys: Any) -> None:
    """The cluster profile `lab` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.yaml").write_text(json.dumps(keys))
