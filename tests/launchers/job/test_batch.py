"""`train.effective_batch_size`: micro-batch times accumulation times processes is what it says, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import batch, jobfile, pipeline
from alignlaunch.launchers.job.job import Job
from alignlaunch.launchers.job.yamlfile import Document

from .job_files import problem, problems, write

KEY = "train.effective_batch_size"
BOTH = ("train.per_device_train_batch_size", "train.gradient_accumulation_steps")


def load(folder: Path, *overrides: str) -> Job:
    return jobfile.load(write(folder), overrides)


def sizes(job: Job) -> tuple[int, int, int]:
    return job.per_device_batch_size, job.accumulation_steps, job.world_size


def test_the_stage_s_micro_batch_without_a_profile_and_says_so(tmp_path: Path) -> None:
    job = load(tmp_path, f"{KEY}=32", "nproc_per_node=4")
    assert sizes(job) == (1, 8, 4)
    assert batch.KEY not in job.spec.train
    why = "the stage's default: no cluster profile says how much memory a GPU has (gpu_memory_gib)"
    assert job.batch == f"micro-batch 1 x accumulation 8 x 4 processes = 32: {why}"
    assert f"{KEY}: {job.batch}" in job.notes


def test_a_default_that_does_not_divide_is_lowered(tmp_path: Path) -> None:
    """dpo's micro-batch is 4."""
    assert [sizes(load(tmp_path, "stage=dpo", f"{KEY}={n}"))[:2] for n in (16, 6, 7, 2)] == [
        *((4, 4), (3, 2), (1, 7), (2, 1)),
    ]


def test_one_of_the_two_given_says_the_other(tmp_path: Path) -> None:
    two = "nnodes=2"
    assert sizes(load(tmp_path, f"{KEY}=24", f"{BOTH[0]}=3", two)) == (3, 4, 2)
    given_accumulation = load(tmp_path, f"{KEY}=24", f"{BOTH[1]}=3", two)
    assert sizes(given_accumulation) == (4, 3, 2)
    assert given_accumulation.batch == f"micro-batch 4 x accumulation 3 x 2 processes = 24: {BOTH[1]} is given"


def test_both_beside_it_are_one_too_many_even_if_they_agree(tmp_path: Path) -> None:
    rule, remedy = problem(write(tmp_path), f"{KEY}=8", f"{BOTH[0]}=2", f"{BOTH[1]}=4")
    assert (rule, remedy) == (f"{BOTH[0]} and {BOTH[1]} are given as well", "remove one of the three")


def test_what_does_not_divide_is_refused_with_the_nearest_that_does(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert problem(path, f"{KEY}=32", "nnodes=3") == ("3 processes cannot share it evenly", "30 or 33")
    assert problem(path, f"{KEY}=2", "nnodes=3") == ("3 processes cannot share it evenly", "3")
    assert problem(path, f"{KEY}=24", f"{BOTH[0]}=5", "nnodes=2") == (
        f"2 processes x 5 of {BOTH[0]} cannot share it evenly",
        f"20 or 30; or {BOTH[0]}: 4 or 6",
    )
    assert problem(path, f"{KEY}=25", f"{BOTH[0]}=5", "nnodes=2")[1] == "20 or 30"


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "true", "null", "[1]", "1048577", "1" * 30])
def test_no_count(tmp_path: Path, value: str) -> None:
    (found,) = problems(write(tmp_path), f"{KEY}={value}")
    assert found.startswith(f"--set {KEY}={value} {KEY} ")


def test_bad_neighbours_are_reported_alone(tmp_path: Path) -> None:
    path = write(tmp_path)
    for bad in ("nnodes=none", "nproc_per_node=0", f"{BOTH[0]}=0"):
        assert [bad.partition("=")[0] in one for one in problems(path, f"{KEY}=32", bad)] == [True]


def test_at_the_top_level_its_place_is_named(tmp_path: Path) -> None:
    assert (
        problem(write(tmp_path), f"{batch.KEY}=32")[1] == f"write it under `train:`, as `train: {{{batch.KEY}: ...}}`"
    )


@given(
    size=st.integers(1, 4096),
    nodes=st.integers(1, 8),
    each=st.integers(1, 8),
    micro=st.none() | st.integers(1, 64),
    accumulation=st.none() | st.integers(1, 64),
    stage=st.sampled_from(["sft", "dpo"]),
)
def test_an_error_or_exactly_the_batch_that_was_asked_for(
    size: int, nodes: int, each: int, micro: int | None, accumulation: int | None, stage: str
) -> None:
    named = {batch.MICRO: micro, batch.ACCUMULATION: accumulation}
    train = {batch.KEY: size, **{key: value for key, value in named.items() if value}}
    document = Document("job.yaml", {"stage": stage, "nnodes": nodes, "nproc_per_node": each, "train": {**train}})
    settled = batch.settle(document)
    unit = nodes * each * (micro or 1) * (accumulation or 1)
    assert bool(settled.problems) == (len(train) == 3 or size % unit != 0)
    if not settled.problems:
        now = document.data["train"]
        assert now[batch.MICRO] * now[batch.ACCUMULATION] * nodes * each == size
        assert all(now[key] == value for key, value in named.items() if value)
        assert settled.is_open == (len(train) == 1)
    for said in settled.problems:  # a remedy that is a number is one that works
        for word in said.remedy.partition(";")[0].split(" or ") if len(train) < 3 else ():
            again = Document("job.yaml", document.data | {"train": train | {batch.KEY: int(word)}})
            assert not batch.settle(again).problems


def test_an_elastic_job_has_it_at_the_most_nodes(tmp_path: Path) -> None:
    job = load(tmp_path, 'nnodes="1:2"', f"{KEY}=32", "zero=0", "nproc_per_node=2")
    assert sizes(job) == (1, 8, 4)
    assert "x 4 processes = 32 (16 with 1 of the nodes): " in job.batch
    rules = [one.rule for one in load(tmp_path, 'nnodes="2:3"', f"{KEY}=15", "zero=0").refused["k8s"]]
    assert any("cannot share evenly" in rule for rule in rules)


def test_the_deepspeed_json_is_held_to_it(tmp_path: Path) -> None:
    config = {"train_batch_size": 16, "gradient_clipping": "auto", "gradient_accumulation_steps": "auto"}
    (tmp_path / "z.json").write_text(json.dumps({**config, "zero_optimization": {"stage": 2}}))
    path = write(tmp_path, zero="z.json")
    (found,) = problems(path, f"{KEY}=32")
    assert "gives 32" in found
    assert jobfile.load(path, (f"{KEY}=16",)).effective_batch_size == 16


def test_sweeps_and_steps_and_variants_may_set_it(tmp_path: Path) -> None:
    swept = pipeline.load(write(tmp_path, sweep={"over": {KEY: [8, 16]}}))
    assert {name: job.effective_batch_size for name, job in swept.jobs.items()} == {
        "effective-batch-size8": 8,
        "effective-batch-size16": 16,
    }
    path = write(tmp_path, train={batch.KEY: 8})
    assert jobfile.load(path, (f"{KEY}=16",)).accumulation_steps == 16
    assert sizes(jobfile.load(path, ("nproc_per_node=4",))) == (1, 2, 4)
    chain = tmp_path / "chain.yaml"
    step = {"job": "job.yaml", "train": {batch.KEY: 24}}
    chain.write_text(json.dumps({"name": "chain", "jobs": {"a": step, "b": {**step, "after": ["a"], "name": "b"}}}))
    assert [job.effective_batch_size for job in pipeline.load(chain).jobs.values()] == [24, 24]


def test_the_same_as_its_two_keys_are_the_same_job(tmp_path: Path) -> None:
    one, two = load(tmp_path, f"{KEY}=8"), load(tmp_path, f"{BOTH[0]}=1", f"{BOTH[1]}=8")
    assert (one.digest, one.resolved()) == (two.digest, two.resolved())
    with pytest.raises(JobFileError):
        load(tmp_path, f"{KEY}=8", f"{BOTH[0]}=3")
