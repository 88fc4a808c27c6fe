"""A user's own DeepSpeed JSON is checked before submitting, all problems at once; ours pass the same rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile, zero_rules
from alignlaunch.launchers.render import render
from alignlaunch.launchers.zero import ZeroConfig
from tests.conftest import MINIMAL

from .job_files import problem, write

OWN = sorted((Path(__file__).parents[3] / "zero_configs").glob("*.json"))
TRAIN = """train: {per_device_train_batch_size: 2, gradient_accumulation_steps: 4, max_grad_norm: 1.0, bf16: true}
nnodes: 2
nproc_per_node: 3
"""
BATCH = {"train_batch_size": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}
GATHER = "zero_optimization.stage3_gather_16bit_weights_on_model_save"


def found(tmp_path: Path, config: dict[str, Any] | str, *overrides: str) -> dict[str, str]:
    """key → rule of every problem of a job with this JSON; each names the file and has a remedy."""
    (tmp_path / "ds.json").write_text(config if isinstance(config, str) else json.dumps(config, indent=1))
    (tmp_path / "job.yaml").write_text(f"{MINIMAL}zero: ds.json\n{TRAIN}")
    try:
        jobfile.load(tmp_path / "job.yaml", overrides)
    except JobFileError as error:
        for problem in error.problems:
            assert problem.place.startswith(str(tmp_path / "ds.json"))
            assert problem.remedy
        return {problem.key: problem.rule for problem in error.problems}
    return {}


def zero(stage: int = 2, **keys: Any) -> dict[str, Any]:
    return BATCH | {"zero_optimization": {"stage": stage, **keys}}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
@pytest.mark.parametrize("lora", ["null", "{r: 8}"])
def test_our_own_files_pass(tmp_path: Path, path: Path, lora: str) -> None:
    assert found(tmp_path, path.read_text(), f"lora={lora}") == {}


def test_all_problems_at_once_each_with_its_place_value_and_remedy(tmp_path: Path) -> None:
    text = """{
  "train_micro_batch_size_per_gpu": 8,
  "zero_optimisation": {},
  "bf16": {"enabled": false},
  "optimizer": {"type": "AdamW"},
  "zero_optimization": {
    "stage": 2,
    "cpu_offload": true,
    "offload_param": {"device": "cpu", "pin_mem": true}
  }
}"""
    (tmp_path / "ds.json").write_text(text)
    (tmp_path / "job.yaml").write_text(f"{MINIMAL}zero: ds.json\n{TRAIN}")
    with pytest.raises(JobFileError) as caught:
        jobfile.load(tmp_path / "job.yaml")
    assert [
        (p.place.removeprefix(f"{tmp_path}/"), p.key, p.value, p.rule, p.remedy) for p in caught.value.problems
    ] == [
        ("ds.json:2:37", "train_micro_batch_size_per_gpu", 8,
         "disagrees with the job: train.per_device_train_batch_size gives 2",
         'write "auto": train.per_device_train_batch_size fills it in'),
        ("ds.json:3:3", "zero_optimisation", None, "not a key that DeepSpeed reads",
         "did you mean `zero_optimization`?"),
        ("ds.json:4:23", "bf16.enabled", False, "disagrees with the job: train.bf16 gives true",
         'write "auto": train.bf16 fills it in'),
        ("ds.json:5:3", "optimizer", None, "overrides train.optim, learning_rate and weight_decay",
         "remove it; these arguments decide"),
        ("ds.json:8:5", "zero_optimization.cpu_offload", None, "an older DeepSpeed's key",
         "write offload_optimizer in its place"),
        ("ds.json:9:5", "zero_optimization.offload_param", "cpu",
         "ZeRO-2 does not shard parameters, and DeepSpeed offloads only sharded ones", "remove it, or set stage 3"),
        ("ds.json:9:40", "zero_optimization.offload_param.pin_mem", None, "not a key that DeepSpeed reads",
         "did you mean `pin_memory`?"),
        ("ds.json", "gradient_accumulation_steps", None, "without it DeepSpeed uses 1, but the job's is 4",
         'add `"gradient_accumulation_steps": "auto"`'),
        ("ds.json", "gradient_clipping", None, "without it gradients are not clipped, but train.max_grad_norm is 1.0",
         'add `"gradient_clipping": "auto"`'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"train_batch_size": 24}, "train_batch_size"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps"),
        ({"gradient_clipping": 0.5}, "gradient_clipping"),
        ({"fp16": {"enabled": True}}, "fp16.enabled"),
        ({"scheduler": {"type": "WarmupDecayLR"}}, "scheduler"),
        ({"_comment": "for the cluster"}, "_comment"),
        ({"bfloat16": {"enabled": True}}, "bfloat16"),
        ({"nebula": {}}, "nebula"),  # DeepSpeed refuses it since 0.19
        ({"fp16": {"enabled": "auto", "scale": 2}}, "fp16.scale"),
    ],
)
def test_one_fault(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    assert list(found(tmp_path, zero() | changes)) == [key]


def test_values_that_agree_with_the_job(tmp_path: Path) -> None:
    agreeing = {
        "train_batch_size": 48,
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 4,
        "gradient_clipping": 1,
        "bf16": {"enabled": True},
        "fp16": {"enabled": False},
    }
    assert found(tmp_path, zero() | agreeing) == {}
    assert list(found(tmp_path, zero() | agreeing, "nproc_per_node=4")) == ["train_batch_size"]


def test_what_is_left_out_where_that_would_change_the_run(tmp_path: Path) -> None:
    bare = {"zero_optimization": {"stage": 2}}
    assert list(found(tmp_path, bare)) == [
        "gradient_accumulation_steps", "gradient_clipping", "train_micro_batch_size_per_gpu"
    ]  # fmt: skip
    harmless = ("train.gradient_accumulation_steps=1", "train.max_grad_norm=0")
    assert list(found(tmp_path, bare, *harmless)) == ["train_micro_batch_size_per_gpu"]


@pytest.mark.parametrize(("stage", "device", "faulty"), [(1, "cpu", True), (2, "none", False), (3, "nvme", False)])
def test_parameters_are_offloaded_at_stage_3_only(tmp_path: Path, stage: int, device: str, faulty: bool) -> None:
    config = zero(stage, offload_param={"device": device})
    assert ("zero_optimization.offload_param" in found(tmp_path, config)) is faulty


@pytest.mark.parametrize(
    ("written", "lora", "faulty"),
    [
        ({}, "null", True),
        ({"stage3_gather_16bit_weights_on_model_save": "auto"}, "null", True),
        ({"stage3_gather_16bit_weights_on_model_save": True}, "null", False),
        ({"stage3_gather_16bit_weights_on_model_save": False}, "null", False),  # asked for
        ({}, "{r: 8}", False),
    ],
)
def test_a_full_fine_tune_at_stage_3_says_what_it_saves(
    tmp_path: Path, written: dict[str, Any], lora: str, faulty: bool
) -> None:
    assert (GATHER in found(tmp_path, zero(3, **written), f"lora={lora}")) is faulty


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (zero(elastic_checkpoint=True), "zero_optimization.elastic_checkpoint"),
        (zero(offload_optimizer={"device": "nvme"}), "zero_optimization.offload_optimizer.device"),
    ],
)
def test_what_a_second_tier_of_checkpoints_cannot_be_used_with(
    tmp_path: Path, changes: dict[str, Any], key: str
) -> None:
    assert found(tmp_path, changes) == {}
    rules = found(tmp_path, changes, "checkpoint.local=/scratch", "checkpoint.local_every=50")
    assert list(rules) == [key]
    assert "not with checkpoint.local" in rules[key]
    fine = zero(elastic_checkpoint=False, offload_optimizer={"device": "cpu"})
    assert found(tmp_path, fine, "checkpoint.local=/scratch", "checkpoint.local_every=50") == {}


@pytest.mark.parametrize("late", [{"checkpoint": {"writer": {"type": "fast"}}}, {"datastates_ckpt": {"a": 1}}])
def test_a_checkpoint_is_not_written_after_it_was_committed(tmp_path: Path, late: dict[str, Any]) -> None:
    ((_, rule),) = found(tmp_path, zero() | late).items()
    assert "after it was committed" in rule


def test_a_key_given_twice(tmp_path: Path) -> None:
    assert list(found(tmp_path, '{"zero_optimization": {"stage": 2}, "bf16": {}, "bf16": {}}')) == ["bf16"]


@pytest.mark.parametrize("train", ["3", "{gradient_accumulation_steps: x}", "{per_device_train_batch_size: 0}"])
def test_a_job_that_is_wrong_itself_gets_its_own_problem_alone(tmp_path: Path, train: str) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(zero()))
    (tmp_path / "job.yaml").write_text(f"{MINIMAL}zero: ds.json\ntrain: {train}\n")
    with pytest.raises(JobFileError) as caught:
        jobfile.load(tmp_path / "job.yaml")
    assert {problem.place.partition(":")[0] for problem in caught.value.problems} == {str(tmp_path / "job.yaml")}


def test_the_rules_need_only_text() -> None:
    """A JSON with characters that are no YAML still gives a problem and no traceback."""
    text = '{"zero_optimization": {"stage": 2}, "a": "\\ud83d\\ude00"}'
    assert json.loads(text)
    assert zero_rules.check("ds.json", ZeroConfig(2, "x", text), {})[0].place.startswith("ds.json:")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no `zero_optimization.stage`"),
        ("{}", "no `zero_optimization.stage`"),
        ('{"zero_optimization": null}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": [2]}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": 4}}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": true}}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": 0}}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": [1]}}', "no `zero_optimization.stage`"),
    ],
)
def test_a_custom_zero_json_that_is_none(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ds.json").write_text(content, encoding="latin-1")
    assert said in problem(write(tmp_path, zero="ds.json"))[0]


def test_a_custom_zero_json_is_copied_as_it_is(tmp_path: Path) -> None:
    text = (
        '{"zero_optimization":\n   {"stage": 2}, "gradient_clipping": "auto", "gradient_accumulation_steps": "auto",'
        '\n\t"train_batch_size": "auto", "tensorboard": {"job_name": "é"}}'
    )
    (tmp_path / "ds.json").write_text(text)
    path = write(tmp_path, zero="ds.json")
    loaded = jobfile.load(path)
    assert loaded.zero is not None
    assert (loaded.zero.stage, loaded.zero.text) == (2, text)
    assert render.render(loaded, "bash", "job.yaml")[loaded.zero.file_name] == text
    assert problem(path, "offload=optimizer")[0] == "the DeepSpeed JSON decides this itself"
