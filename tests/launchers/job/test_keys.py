"""What each key accepts, what it refuses, and what is filled in for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import defaults, jobfile
from alignlaunch.launchers.render import render
from tests.conftest import MINIMAL

from .job_files import EXAMPLE, NEEDED, problem, write


@pytest.mark.parametrize("name", ["a b", "A", "-a", "a-", "1a", "a" * 51, "a\n", "../a", "$(id)", "`id`", "é", ""])
def test_names_that_a_scheduler_or_shell_would_choke_on(tmp_path: Path, name: str) -> None:
    rule, remedy = problem(write(tmp_path), f"name={json.dumps(name)}")
    assert "Lower-case letters" in rule
    assert remedy == 'for example `name: "qwen3-orpo"`'


@pytest.mark.parametrize("name", ["a", "a-1", "a" * 50])
def test_good_names(tmp_path: Path, name: str) -> None:
    assert jobfile.load(write(tmp_path), (f"name={name}",)).spec.name == name


def test_a_file_name_cannot_leave_the_comment_that_it_stands_in(tmp_path: Path) -> None:
    path = tmp_path / "job\ntouch evil\n.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(UsageError, match="must be printable text"):
        jobfile.load(path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nnodes=-1", ">= 1"),
        ("nnodes=true", "int"),
        ("nnodes=two", "a number, or MIN:MAX"),
        ("nnodes=4:2", "the fewest nodes are more than the most"),
        ("nnodes=[2]", "int"),
        ("nproc_per_node=0", ">= 1"),
        ("data.max_train_samples=-5", ">= 1"),
        ("lora.r=0", ">= 1"),
        ("lora.dropout=-0.1", ">= 0"),
        ("lora.dropout=1", "< 1"),
        ("lora=8", "object"),
        ("lora.rank=8", "unknown key"),
        ("data=x", "object"),
        ("data.train=3", "array"),
        ("train=3", "object"),
        ("stage=ppo", "must be one of pt, sft, rm, dpo, orpo, safe_dpo"),
        ("offload=cpu", "must be one of none, optimizer, optimizer+param"),
        ("zero=4", "must be 0, 1, 2 or 3, or the path of a DeepSpeed JSON file"),
        ("zero=-1", "or the path of a DeepSpeed JSON file"),
        ("zero=2.0", "or the path of a DeepSpeed JSON file"),
        ("time=tomorrow", "HH:MM:SS"),
        ("time=[12]", "str"),
        ("env.A={b: 1}", "expected"),
        ("env=3", "object"),
        ("secrets=HF_TOKEN", "array"),
        ("secrets=[hf_abc-def]", "never by its value"),
        ("slurm.partition=a b", "no spaces"),
        ("slurm.partition=a\\\n#SBATCH --x", "no spaces"),
        ("slurm.extra=[--x=$HOME]", "without spaces"),
        ("slurm.extra=[-x]", "without spaces"),
        ("slurm.signal_seconds=-1", ">= 0"),
        ("train.learning_rate=-1", "must not be negative"),
        ("train.logging_steps=0", "must be more than 0"),
        ("train.hub_token=hf_abcdefghijk", "the job decides this by another key"),
        ('slurm.extra=["--exclusive", "--job-name=x"]', "alignlaunch decides this itself"),
        ("slurm.extra=[--arra=1-3]", "alignlaunch decides this itself"),
        ("slurm.extra=[--quiet]", "alignlaunch decides this itself"),
        ("slurm.extra=[--part=gpu]", "alignlaunch decides this itself"),
        ('secrets=["hf_abcdefghijk"]', "a secret is passed by its variable's name, never by its value"),
        ("env.my_pass=x", "looks like a secret, and this file is committed"),
        ("train.num_train_epochs=-1", "must be more than 0"),
        ("train.per_device_train_batch_size=0", "must be 1 or more"),
        ("train.gradient_accumulation_steps=-2", "must be 1 or more"),
        ("train.gradient_accumulation_steps=true", "a value of type int is expected"),
        ("train.bf16=1", "a value of type bool"),
        ("train.learning_rate=null", "a value of type float is expected"),
        ("train.eval_strategy=sometimes", "must be one of"),
        ("train.fsdp=full_shard", "the job decides this by another key"),
        ("train.dataset_text_field=x", "not to be set here"),
        ("train.beta=0.1", "not an argument of the sft trainer's config"),
    ],
)
def test_one_bad_value(tmp_path: Path, override: str, said: str) -> None:
    rule, _ = problem(write(tmp_path), override)
    assert said in rule


def test_effective_batch_size_and_paths(tmp_path: Path) -> None:
    train = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}
    loaded = jobfile.load(write(tmp_path, nnodes=2, nproc_per_node=4, train=train))
    assert (loaded.world_size, loaded.effective_batch_size) == (8, 3 * 8 * 5)
    assert loaded.dir == tmp_path
    assert loaded.spec.output_dir == "output/tiny"
    assert loaded.resolved()["model"] == "model"  # relative to the job file wherever it is read


@pytest.mark.parametrize("stage", defaults.STAGES)
def test_the_minimal_job_of_each_stage(tmp_path: Path, stage: str) -> None:
    loaded = jobfile.load(write(tmp_path), (f"stage={stage}", *NEEDED.get(stage, ())))
    for target in render.targets(loaded):
        assert render.RESOLVED in render.render(loaded, target, "job.yaml")


def test_the_example_of_the_issue() -> None:
    loaded = jobfile.load(EXAMPLE)
    assert loaded.notes == []
    assert loaded.effective_batch_size == 1 * 8 * 4


def test_resolved_is_complete_and_loads_to_the_same(tmp_path: Path) -> None:
    """The resolved file is itself a job file: nothing that matters is left to a default that may change."""
    resolved = jobfile.load(EXAMPLE).resolved()
    del resolved["deepspeed"]
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(resolved))
    assert jobfile.load(path).spec == jobfile.load(EXAMPLE).spec


def test_quantised_weights_need_an_adapter(tmp_path: Path) -> None:
    assert jobfile.load(write(tmp_path), ("quantization=4bit",)).spec.lora is not None
    for off in ("lora=null", "lora=false"):
        assert problem(write(tmp_path), "quantization=4bit", off)[0] == "quantised weights cannot be trained"


def test_lora_false_is_null(tmp_path: Path) -> None:
    assert jobfile.load(write(tmp_path), ("lora=false",)).spec.lora is None


def test_the_deepspeed_launcher_needs_zero(tmp_path: Path) -> None:
    assert "no use" in problem(write(tmp_path), "launcher=deepspeed", "zero=0")[0]


@pytest.mark.parametrize(
    ("zero", "offload", "said"),
    [
        (0, "optimizer", "offload needs ZeRO"),
        (1, "optimizer+param", "cannot offload"),
        (2, "optimizer+param", "cannot"),
    ],
)
def test_offload_that_does_not_exist(tmp_path: Path, zero: int, offload: str, said: str) -> None:
    assert said in problem(write(tmp_path), f"zero={zero}", f"offload={offload}")[0]
