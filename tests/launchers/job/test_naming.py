"""A job file of three lines: named after its file, and its guesses said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import defaults, jobfile, pipeline
from alignlaunch.train.config import Stage
from tests.conftest import Cli
from tests.launchers.job.job_files import problem, problems

THREE = "stage: sft\nmodel: model\ndata: {train: [data]}\n"


def three(path: Path, text: str = THREE) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("stage", [stage for stage in defaults.STAGES if stage != "safe_dpo"])
def test_three_lines_are_a_job(tmp_path: Path, stage: Stage) -> None:
    job = jobfile.load(three(tmp_path / "first.yaml", THREE.replace("sft", stage)))
    assert (job.spec.name, job.spec.output_dir, job.spec.nproc_per_node) == ("first", "output/first", 1)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen3_SFT.yaml", "qwen3-sft"),
        ("qwen 2.5 sft.yml", "qwen-2-5-sft"),
        ("_draft_.yaml", "draft"),
        ("no-ending", "no-ending"),
        ("a.yaml.orig", "a-yaml"),
    ],
)
def test_the_files_name_as_a_jobs(tmp_path: Path, file: str, name: str) -> None:
    assert jobfile.load(three(tmp_path / file)).spec.name == name


@pytest.mark.parametrize("file", ["2026.yaml", "größe.yaml", "job(1).yaml", "_.yaml", "a" * 51 + ".yaml"])
def test_a_files_name_that_cannot_be_one(tmp_path: Path, file: str) -> None:
    path = three(tmp_path / file)
    rule, remedy = problem(path)
    assert rule.startswith("not set in the job file, whose own name cannot be one: lower-case letters")
    assert remedy == "add `name: my-job`, or rename the file"
    assert jobfile.load(path, ("name=mine",)).spec.name == "mine"


def test_all_other_problems_are_told_beside_it(tmp_path: Path) -> None:
    found = problems(three(tmp_path / "2.yaml", THREE + "zero: 7\n"))
    assert sorted(one.split()[1] for one in found) == ["name", "zero"]


def test_what_has_no_file_must_say_its_name() -> None:
    """As in `alignlaunch render <(...)`."""
    read, write = os.pipe()
    try:
        os.write(write, THREE.encode())
        os.close(write)
        with pytest.raises(JobFileError, match="name: this key is required"):
            jobfile.load(Path(f"/dev/fd/{read}"))
    finally:
        os.close(read)


def test_it_is_said_and_a_name_of_its_own_is_not(tmp_path: Path) -> None:
    path = three(tmp_path / "first.yaml")
    (said,) = [note for note in jobfile.load(path).notes if note.startswith("name")]
    of_file = "name: first, after the job file"
    assert said == f"{of_file}, and its output_dir is output/first; under another file name it is another job"
    placed = jobfile.load(path, ("output_dir=there",)).notes
    assert placed[0] == f"{of_file}; under another file name it is another job"
    assert [note for note in jobfile.load(path, ("name=other",)).notes if note.startswith("name")] == []
    given = jobfile.load(three(path, f"name: first\n{THREE}"))
    assert [note for note in given.notes if note.startswith("name")] == []
    assert given.digest == jobfile.load(three(path)).digest


def test_the_defaults_that_users_take_for_granted_are_said(tmp_path: Path) -> None:
    path = three(tmp_path / "first.yaml")
    assert jobfile.load(path).notes[1:] == [
        "nproc_per_node: 1 is the default, not set in the job file; one process for each GPU of a node",
        "lora: r=8, alpha=16, dropout=0.05, target_modules=all is the stage's default (SFT, LoRA), "
        "not set in the job file; `lora: null` trains all weights",
    ]
    for lora in ("null", "false", "{r: 4}"):
        assert jobfile.load(path, ("name=first", f"lora={lora}", "nproc_per_node=1")).notes == []


def test_safe_dpo_asks_for_its_reward_models(tmp_path: Path) -> None:
    path = three(tmp_path / "first.yaml", THREE.replace("sft", "safe_dpo"))
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path)
    assert [(one.key, one.rule) for one in caught.value.problems] == [
        (f"train.{name}_reward_model", f"safe_dpo with objective lagrangian needs the {name} reward model")
        for name in ("helpful", "harmless")
    ]
    assert "a model that stage rm has trained" in str(caught.value)
    assert jobfile.load(path, ("train.objective=dpo",)).reward_models == {}
    assert problem(path, "train.objective=mm_dpo")[0].endswith("objective mm_dpo needs the helpful reward model")
    both = ("train.helpful_reward_model=a", "train.harmless_reward_model=b")
    assert jobfile.load(path, both).reward_models == {"helpful_reward_model": "a", "harmless_reward_model": "b"}
    assert len(problems(path, "train.objective=dpo", "train.eval_generate=8")) == 2


def test_a_variant_and_a_sweep_have_the_same_name(tmp_path: Path) -> None:
    path = three(tmp_path / "first.yaml")
    assert jobfile.load(path, ("train.learning_rate=1e-5",)).spec.name == "first+lr1e-5"
    swept = pipeline.load(path, ("sweep.over.train.seed=[1, 2]",))
    assert [job.spec.name for job in swept.jobs.values()] == ["first+seed1", "first+seed2"]
    assert {job.family for job in swept.jobs.values()} == {"first"}


def test_a_step_is_named_after_its_own_job_file(tmp_path: Path) -> None:
    three(tmp_path / "first.yaml")
    three(tmp_path / "Second.yaml", THREE.replace("sft", "dpo"))
    chain = {"a": {"job": "first.yaml"}, "b": {"job": "Second.yaml", "model": "${a.output}"}}
    path = three(tmp_path / "chain.yaml", json.dumps({"name": "chain", "jobs": chain}))
    found = pipeline.load(path).jobs
    assert {job.spec.name: job.spec.model for job in found.values()} == {"first": "model", "second": "output/first"}
    assert [note for note in found["b"].notes if note.startswith("name: second")]
    chain["b"] = {"job": "first.yaml"}
    with pytest.raises(JobFileError, match="that of step a too"):
        pipeline.load(three(path, json.dumps({"name": "chain", "jobs": chain})))
    chain["b"] |= {"name": "again"}
    assert [*pipeline.load(three(path, json.dumps({"name": "chain", "jobs": chain}))).jobs] == ["a", "b"]


def test_the_commands_see_one_name(cli: Cli, tmp_path: Path) -> None:
    three(tmp_path / "first.yaml")
    rendered = cli("render", "first.yaml")
    assert (rendered.returncode, rendered.stdout.split()) == (0, ["launch/first/bash", "launch/first/slurm"])
    assert "note: name: first, after the job file" in rendered.stderr
    assert cli("check").returncode == 0
    (tmp_path / "first.yaml").write_text("name: first\n" + THREE)
    assert cli("check").returncode == 0  # nothing else would run
    (tmp_path / "first.yaml").rename(tmp_path / "second.yaml")
    gone = cli("check")
    assert (gone.returncode, "first.yaml is gone" in gone.stderr) == (2, True)


def test_a_sweep_by_the_command_line_has_the_files_name(cli: Cli, tmp_path: Path) -> None:
    three(tmp_path / "first.yaml")
    assert "sweep first-sweep: 2 points" in cli("sweep", "first.yaml", "--over", "train.seed=1,2").stderr
    three(tmp_path / "2.yaml")
    refused = cli("sweep", "2.yaml", "--over", "train.seed=1,2")
    assert (refused.returncode, "whose own name cannot be one" in refused.stderr) == (2, True)
