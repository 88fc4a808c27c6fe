"""`sweep:` in a job file: its points, their names, and what is wrong with it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import pipeline
from alignlaunch.launchers.job.sweep import _Span

from .job_files import write


def load(folder: Path, sweep: dict[str, Any], *overrides: str) -> pipeline.Pipeline:
    return pipeline.load(write(folder, output_dir="../out/base", sweep=sweep), overrides)


def test_every_combination_is_a_job_with_a_name_and_an_output_folder_of_its_own(tmp_path: Path) -> None:
    found = load(
        tmp_path, {"over": {"train.learning_rate": [1e-5, 2e-5], "train": {"seed": [1, 2]}}, "max_parallel": 3}
    )
    assert found.name == "tiny"
    assert list(found.jobs) == ["lr1e-5-seed1", "lr1e-5-seed2", "lr2e-5-seed1", "lr2e-5-seed2"]
    last = found.jobs["lr2e-5-seed2"]
    assert (last.spec.name, last.spec.output_dir) == ("tiny+lr2e-5-seed2", "../out/base+lr2e-5-seed2")
    assert (last.spec.train["learning_rate"], last.spec.train["seed"]) == (2e-5, 2)
    assert last.folder("slurm") == "launch/tiny/slurm/lr2e-5-seed2"
    assert "sweep" not in last.resolved()
    assert not any(found.needs.values())


def test_points_may_be_listed_and_mixed_with_a_grid(tmp_path: Path) -> None:
    sweep = {"points": [{"lora": {"r": 8}}, {"zero": 2, "nnodes": 2}], "over": {"train.seed": [1]}}
    assert list(load(tmp_path, sweep).jobs) == ["r8", "zero2-nnodes2", "seed1"]


def test_random_points_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    over = {
        "train.learning_rate": {"min": 1e-6, "max": 1e-4, "log": True},
        "train.seed": [1, 2],
        "lora.r": {"min": 4, "max": 64},
    }
    found = [list(load(tmp_path, {"over": over, "random": {"count": 5, "seed": seed}}).jobs) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0][0] == "lr4.885e-5-seed2-r6"


@given(st.integers(), st.floats(1e-12, 1e3), st.floats(1e-12, 1e3), st.booleans())
def test_what_is_drawn_lies_in_its_range(seed: int, one: float, other: float, log: bool) -> None:
    low, high = sorted((one, other))
    drawn = _Span(min=low, max=high, log=log).draw(random.Random(seed))  # noqa: S311
    assert low <= drawn <= high


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({}, "no points"),
        ({"over": {"train.seed": []}}, "sweep.over.train.seed = []: a list of values is expected"),
        ({"over": {"train.seed": 3}}, "sweep.over.train.seed = 3: a list of values is expected"),
        ({"over": {"train.seed": {"min": 1, "max": 3}}}, "a range has no points"),
        ({"over": {"train.seed": {"min": 3, "max": 1}}, "random": {"count": 2}}, "not a range"),
        ({"over": {"train.learning_rate": {"min": 0, "max": 1, "log": True}}, "random": {"count": 2}}, "not a range"),
        ({"over": {"name": ["a", "b"]}}, "a point's name and output folder say what it changes"),
        ({"points": [{"output_dir": "x"}]}, "a point's name and output folder say what it changes"),
        ({"over": {"a b": [1]}}, "no key of a job file"),
        ({"over": {"train.seed": [1, 1]}}, "is there twice"),
        ({"over": {"train.seed": list(range(1001))}}, "1001 points"),
        ({"over": {"train.sead": [1]}}, "train.sead"),
        ({"over": {"train.seed": ["many"]}}, "train.seed = 'many'"),
        ({"ower": {}}, "sweep.ower: unknown key"),
        ({"max_parallel": 0, "over": {"train.seed": [1]}}, "sweep.max_parallel"),
        ([1], "sweep = [1]: a map is expected"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, sweep: Any, said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, sweep)
    assert said in str(caught.value)
    assert all(str(tmp_path) in problem.place and problem.remedy for problem in caught.value.problems)


def test_other_values_than_the_files_make_its_points_variants(tmp_path: Path) -> None:
    """They lie in the folders of their runs, unless the sweep is given a name."""
    sweep = {"over": {"train.seed": [1, 2]}}
    found = load(tmp_path, sweep, "train.max_steps=5")
    assert list(found.jobs) == ["seed1", "seed2"]
    assert [job.spec.name for job in found.jobs.values()] == ["tiny+steps5-seed1", "tiny+steps5-seed2"]
    assert all(job.varies == ("train.max_steps=5",) for job in found.jobs.values())
    named = load(tmp_path, sweep, "train.max_steps=5", "name=five")
    assert [job.folder("bash") for job in named.jobs.values()] == ["launch/five/bash/seed1", "launch/five/bash/seed2"]
    assert not any(job.varies for job in named.jobs.values())
