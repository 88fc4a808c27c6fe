"""What is said of a broken job file: every problem at once, each with its place, value, rule and remedy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.job.spec import JobSpec

from .job_files import problem, problems, write


def test_all_problems_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """\
name: "a $(touch x)"
stage: orpo
model: ""
data: {train: [], validaton: [x]}
nnodes: -1
nproc_per_node: 1.5
zero: 7
launcher: mpirun
train:
  learning_rate: fast
  max_stesp: 3
  output_dirr: x
env: {RANK: "0", "A B": x, HF_TOKEN: hf_abc}
slurm: {extra: ["--comment=a b"]}
"""
    found = problems(write(tmp_path, text))
    assert [line.split()[:2] for line in found] == [
        ["job.yaml:1:7", "name"],
        ["job.yaml:3:8", "model"],
        ["job.yaml:4:15", "data.train"],
        ["job.yaml:4:19", "data.validaton"],
        ["job.yaml:5:9", "nnodes"],
        ["job.yaml:6:17", "nproc_per_node"],
        ["job.yaml:7:7", "zero"],
        ["job.yaml:8:11", "launcher"],
        ["job.yaml:10:18", "train.learning_rate"],
        ["job.yaml:11:3", "train.max_stesp"],
        ["job.yaml:12:3", "train.output_dirr"],
        ["job.yaml:13:7", "env.RANK"],
        ["job.yaml:13:18", "env.A"],
        ["job.yaml:13:28", "env.HF_TOKEN"],
        ["job.yaml:14:17", "slurm.extra[0]"],
    ]


def test_the_message_has_place_key_value_rule_and_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, nnodes=0)
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path)
    assert str(caught.value) == (
        f"{path}:5:9: nnodes = 0: expected `int` >= 1\n    remedy: for example `nnodes: 2`\n"
        "1 problem; nothing was written or submitted"
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("nodes", "nnodes"),
        ("nproc", "nproc_per_node"),
        ("modle", "model"),
        ("ouput_dir", "output_dir"),
        ("sets", "secrets"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(tmp_path: Path, wrong: str, right: str) -> None:
    assert problem(write(tmp_path, **{wrong: "x"})) == ("unknown key", f"did you mean `{right}`?")


def test_a_key_like_no_other_lists_them_all(tmp_path: Path) -> None:
    rule, remedy = problem(write(tmp_path, qqqqqq=1))
    assert rule == "unknown key"
    assert remedy == f"known keys here: {', '.join(sorted(f.name for f in msgspec.structs.fields(JobSpec)))}"


def test_missing_keys(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "train: {}\n"))
    assert found == [f"job.yaml:1:1 {key} this key is required" for key in ("stage", "model", "data")]


def test_an_unknown_trainer_argument_suggests_the_nearest(tmp_path: Path) -> None:
    assert problem(write(tmp_path), "train.lerning_rate=1e-4")[1] == "did you mean `learning_rate`?"
