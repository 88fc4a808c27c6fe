"""What `--set` makes of a job: another name and output folder where it learns something else; else neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.job import jobfile, pipeline

from .job_files import write as write_text


def write(folder: Path, *, stage: str = "sft", name: str = "qwen", **more: Any) -> Path:
    return write_text(folder, f"name: {name}\nstage: {stage}\nmodel: org/m\ndata: {{train: [org/d]}}\n", **more)


OVER = {
    ("train.learning_rate=1e-5",): "lr1e-5",
    ("train.learning_rate=0.00025", "train.seed=7"): "lr0.00025-seed7",
    ("train.lr_scheduler_type=linear", "train.beta=0.3"): "beta0.3-schedule-linear",
    ("lora.r=32",): "r32",
    ("train.max_steps=20",): "steps20",
    ("train.warmup_ratio=0.1", "nnodes=1", "train.eval_steps=7"): "warmup-steps0.1",
}


@pytest.mark.parametrize("overrides", OVER, ids=str)
def test_what_is_learnt_otherwise_is_in_the_name_and_the_output_folder(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    path = write(tmp_path, stage="dpo", name="qwen", output_dir="../out/dpo", nnodes=2)
    found = jobfile.load(path, overrides)
    assert found.spec.name == f"qwen+{OVER[overrides]}"
    assert found.spec.output_dir == f"../out/dpo+{OVER[overrides]}"
    assert len(found.varies) >= len(overrides)
    assert jobfile.load(path).spec.output_dir == "../out/dpo"


@pytest.mark.parametrize("key", ["nnodes=3", "time=60", "slurm.partition=debug", "train.save_steps=3", "resume=never"])
def test_where_and_how_it_runs_is_no_other_job(tmp_path: Path, key: str) -> None:
    """It goes on from the checkpoints that are there: `train.outputs.sameness` decides both."""
    found = jobfile.load(write(tmp_path, name="qwen", output_dir="out"), (key,))
    assert (found.spec.name, found.spec.output_dir, len(found.varies)) == ("qwen", "out", 1)


def test_what_says_the_same_is_the_committed_job(tmp_path: Path) -> None:
    path = write(tmp_path, train={"learning_rate": 2e-5})
    found = jobfile.load(path, ("train.learning_rate=0.00002",))
    assert found == jobfile.load(path)
    assert (found.varies, found.overrides) == ((), ())


def test_values_that_a_name_cannot_say_differ_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, name="qwen")
    names = {
        jobfile.load(path, (f"{key}",)).spec.name
        for key in ("model=a/base", "model=b/base", "data.train=[x, y]", "data.train=[x, z]", "lora=null", "model=BASE")
    }
    assert len(names) == 6
    long = jobfile.load(path, tuple(f"train.{key}=0.12345" for key in ("adam_beta1", "adam_beta2", "weight_decay")))
    longer = jobfile.load(path, (*long.overrides, "train.max_grad_norm=0.3", "train.adam_epsilon=0.00012345"))
    assert all(len(one.spec.name) <= len("qwen+") + 60 for one in (long, longer))
    assert long.spec.name != longer.spec.name


def test_a_name_makes_it_a_job_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, name="qwen", output_dir="../out/dpo")
    found = jobfile.load(path, ("train.learning_rate=1e-5", "name=low"))
    assert (found.spec.name, found.spec.output_dir, found.varies) == ("low", "../out/low", ())
    placed = jobfile.load(path, ("train.learning_rate=1e-5", "name=low", "output_dir=there"))
    assert placed.spec.output_dir == "there"
    assert jobfile.load(path, ("name=low",)).spec.output_dir == "../out/dpo"


def test_an_output_folder_that_is_given_stays(tmp_path: Path) -> None:
    found = jobfile.load(write(tmp_path, name="qwen"), ("train.learning_rate=1e-5", "output_dir=there"))
    assert (found.spec.name, found.spec.output_dir) == ("qwen+lr1e-5", "there")


def test_a_job_file_that_is_whole_only_with_set(tmp_path: Path) -> None:
    path = write(tmp_path, name="qwen", output_dir="out")
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "model" not in line))
    found = [jobfile.load(path, (f"model=org/{one}",)) for one in "ab"]
    assert [one.spec.output_dir for one in found] == ["out+model-a-" + one.spec.name[-4:] for one in found[:1]] + [
        "out+model-b-" + found[1].spec.name[-4:]
    ]
    assert found[0].varies == ("model=org/a",)


def test_on_kubernetes_its_name_is_a_label(tmp_path: Path) -> None:
    path = write(tmp_path, name="qwen")
    assert jobfile.load(path, ("train.warmup_ratio=0.1",)).object_name == "qwen-warmup-steps0-1"
    names = [
        jobfile.load(path, ("train.adam_epsilon=1e-9", f"train.weight_decay=0.1234567{n}")).object_name for n in "12"
    ]
    assert len({*names}) == 2
    assert all(len(name) <= 50 for name in names)


def test_the_steps_behind_a_variant_are_variants_too(tmp_path: Path) -> None:
    """They read its output folder; theirs would be overwritten."""
    (tmp_path / "p.yaml").write_text(
        "name: align\njobs:\n"
        "  sft: {stage: sft, model: org/m, data: {train: [org/d]}}\n"
        "  rm: {stage: rm, model: org/m, data: {train: [org/d]}}\n"
        "  dpo: {stage: dpo, model: '${sft.output}', data: {train: [org/d]}}\n"
    )
    jobs = pipeline.load(tmp_path / "p.yaml", ("sft.train.learning_rate=1e-5",)).jobs
    assert jobs["sft"].spec.output_dir == "output/align-sft+lr1e-5"
    assert jobs["dpo"].spec.model == "output/align-sft+lr1e-5"
    assert jobs["dpo"].spec.output_dir.startswith("output/align-dpo+model-align-sft-lr1e-5")
    assert (jobs["rm"].spec.name, jobs["rm"].varies) == ("align-rm", ())
