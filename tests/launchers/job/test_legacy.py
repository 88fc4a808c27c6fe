"""Argument names of the user's documents and of transformers 4 still work, and land where they do the same thing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import defaults, job, jobfile, legacy, rules
from alignlaunch.launchers.job.cluster import Slurm
from alignlaunch.launchers.job.spec import JobSpec
from alignlaunch.train.config import Data, Lora

STRUCTS: dict[str, type[msgspec.Struct]] = {"": JobSpec, "data": Data, "lora": Lora, "slurm": Slurm}
#: old name: (a value as the documents write it, the key of the resolved job, its value there)
LANDS: dict[str, tuple[Any, str, Any]] = {
    "model_name_or_path": ("m", "model", "m"),
    "tokenizer_name_or_path": ("t", "tokenizer", "t"),
    "attn_implementation": ("sdpa", "attn_implementation", "sdpa"),
    "trust_remote_code": (True, "trust_remote_code", True),
    "train_file_dir": ("a,b", "data.train", ["a", "b"]),
    "validation_file_dir": ("c, d", "data.validation", ["c", "d"]),
    "max_train_samples": (7, "data.max_train_samples", 7),
    "max_eval_samples": (7, "data.max_eval_samples", 7),
    "cache_dir": ("c", "data.cache_dir", "c"),
    "output_dir": ("o", "output_dir", "o"),
    "lora_rank": (4, "lora.r", 4),
    "lora_alpha": (4, "lora.alpha", 4),
    "lora_dropout": (0.2, "lora.dropout", 0.2),
    "target_modules": ("q_proj,v_proj", "lora.target_modules", "q_proj,v_proj"),
    "deepspeed": ("ds.json", "zero", "ds.json"),
    "logging_dir": ("logs", "env.TENSORBOARD_LOGGING_DIR", "logs"),
    "preprocessing_num_workers": (8, "train.dataset_num_proc", 8),
    "model_max_length": (2048, "train.max_length", 2048),
    "block_size": (1024, "train.max_length", 1024),
    "flash_attn": (True, "attn_implementation", "flash_attention_2"),
    "load_in_8bit": (True, "quantization", "8bit"),
    "load_in_4bit": ("True", "quantization", "4bit"),
    "qlora": (True, "quantization", "4bit"),
    "quantization_type": ("8bit", "quantization", "8bit"),
    "warmup_ratio": (0.05, "train.warmup_steps", 0.05),
    "evaluation_strategy": ("epoch", "train.eval_strategy", "epoch"),
    "group_by_length": (True, "train.train_sampling_strategy", "group_by_length"),
    "overwrite_output_dir": (True, "resume", "never"),
    "use_peft": (False, "lora", None),
    "orpo_beta": (0.2, "train.beta", 0.2),
}
#: The stage whose trainer has the argument, where not all have.
STAGE = {"orpo_beta": "orpo"}


def load(folder: Path, train: dict[str, Any], **more: Any) -> job.Job:
    base = {"name": "tiny", "stage": "sft", "model": "m", "data": {"train": ["a", "b"]}, "output_dir": "o"}
    for old, new in (("model_name_or_path", "model"), ("train_file_dir", "data"), ("output_dir", "output_dir")):
        if old in train:
            del base[new]
    path = folder / "job.yaml"
    path.write_text(json.dumps({**base, "train": train, **more}))
    auto = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"), "auto")
    switches = {name: {"enabled": "auto"} for name in ("bf16", "fp16")}
    (folder / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 2}, **auto, **switches}))
    return jobfile.load(path)


def at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize("name", LANDS)
def test_an_old_name_lands_where_it_belongs(tmp_path: Path, name: str) -> None:
    value, key, expected = LANDS[name]
    loaded = load(tmp_path, {name: value}, stage=STAGE.get(name, "sft"))
    assert at(loaded.resolved(), key) == expected
    assert name == key.rpartition(".")[2] or name not in loaded.spec.train
    assert any(f"train.{name} is `{key}` today" in note for note in loaded.notes)


@pytest.mark.parametrize("name", [name for name, move in legacy.MOVES.items() if move.to is None])
def test_a_name_that_is_not_needed_is_noted(tmp_path: Path, name: str) -> None:
    unless = legacy.MOVES[name].unless
    loaded = load(tmp_path, {name: not unless})
    assert name not in loaded.spec.train
    assert any(f"train.{name} is not needed" in note for note in loaded.notes)
    if unless is not None:  # what will not be is refused, whoever wrote it: a document's script has text
        for value in (unless, str(unless)):
            with pytest.raises(JobFileError, match=rf"train\.{name} = .*: not to be had so"):
                load(tmp_path, {name: value})


@pytest.mark.parametrize("name", [name for name, move in legacy.MOVES.items() if move.to])
def test_every_move_has_a_test_and_a_target_that_exists(name: str) -> None:
    assert name in LANDS
    section, _, key = str(legacy.MOVES[name].to).rpartition(".")
    if section == "train":
        stages = [STAGE[name]] if name in STAGE else defaults.STAGES
        assert all(key in rules.trainer_args()["stages"][stage] for stage in stages)
    elif section != "env":  # any name is welcome there
        assert key in STRUCTS[section].__struct_fields__


@pytest.mark.parametrize("name", [name for name in LANDS if name not in ("use_peft",)])
def test_a_name_given_in_both_ways_with_two_values_is_an_error(tmp_path: Path, name: str) -> None:
    value, key, _ = LANDS[name]
    other: Any = {
        "data.train": ["z"],
        "data.validation": ["z"],
        "train.eval_strategy": "no",
        "quantization": "none",
        "trust_remote_code": False,
    }.get(key, 1 if isinstance(value, int | float) else "z")
    section, _, last = key.rpartition(".")
    train, more = {name: value}, {}
    if section == "train":
        train[last] = other
    elif section:
        more = {section: {"train": ["a", "b"], last: other} if section == "data" else {last: other}}
    else:
        more = {last: other}
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, train, **{"stage": STAGE.get(name, "sft"), **more})
    assert any(p.key == f"train.{name}" and p.rule == f"given as `{key}` as well" for p in caught.value.problems)


@pytest.mark.parametrize("name", ["torch_dtype", "dtype"])
def test_the_type_of_the_weights_is_the_precision_of_training(tmp_path: Path, name: str) -> None:
    def precision(value: str) -> tuple[Any, Any]:
        train = load(tmp_path, {name: value}).spec.train
        assert name not in train
        return train.get("bf16"), train.get("fp16")

    found = {value: precision(value) for value in ("bfloat16", "float16", "float32", "auto")}
    assert found == {
        **{"bfloat16": (True, None), "float16": (False, True)},
        **{"float32": (False, None), "auto": (True, None)},
    }
    for value in ("int8", ["bfloat16"]):
        with pytest.raises(JobFileError, match=rf"train\.{name} = {re.escape(repr(value))}: no precision to train in"):
            load(tmp_path, {name: value})
    with pytest.raises(JobFileError, match=r"given as `train\.bf16` as well"):
        load(tmp_path, {name: "float32", "bf16": True})


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("learning_rate", "write it under `train:`"),
        ("device", "clusters/NAME.yaml"),
        ("partition", "as `slurm: {partition: ...}`"),
        ("max_train_samples", "as `data: {max_train_samples: ...}`"),
        ("lora_rank", "use `lora.r`"),
        ("torch_dtype", "use `train: {bf16: true}`"),
        ("tool_format", "remove it: the model's own chat template writes tools"),
        ("modle", "did you mean `model`"),
    ],
)
def test_a_key_at_the_top_that_belongs_elsewhere(tmp_path: Path, key: str, remedy: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, {}, **{key: "x"})
    (problem,) = caught.value.problems
    assert (problem.key, remedy in problem.remedy) == (key, True), problem


def test_the_same_value_given_in_both_ways_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path, {"lora_rank": 4}, lora={"r": 4}).spec.lora == Lora(r=4)


def test_the_documents_write_both_of_these(tmp_path: Path) -> None:
    assert load(tmp_path, {"load_in_8bit": True, "quantization_type": "8bit"}).spec.quantization == "8bit"
    assert load(tmp_path, {"load_in_8bit": False, "load_in_4bit": True}).spec.quantization == "4bit"
    assert load(tmp_path, {"load_in_8bit": False, "flash_attn": False}).spec.attn_implementation is None


@pytest.mark.parametrize("lora", [None, False])
def test_lora_off_and_a_lora_argument_contradict_each_other(tmp_path: Path, lora: Any) -> None:
    with pytest.raises(JobFileError, match=r"given as `lora\.r` as well"):
        load(tmp_path, {"lora_rank": 4}, lora=lora)


def test_use_peft_true_keeps_the_adapter(tmp_path: Path) -> None:
    assert load(tmp_path, {"use_peft": True}).spec.lora is not None


def test_source_and_target_length_become_one(tmp_path: Path) -> None:
    both = {"max_source_length": 1024, "max_target_length": 256}
    assert load(tmp_path, both, stage="rm").spec.train["max_length"] == 1280
    with pytest.raises(
        JobFileError, match=r"max_source_length \+ max_target_length: given as `train\.max_length` as well"
    ):
        load(tmp_path, {**both, "max_length": 512}, stage="rm")
    assert load(tmp_path, {"max_source_length": 1024}, stage="rm").spec.train["max_length"] == 1024
    orpo = load(tmp_path, {"max_source_length": 1024, "max_target_length": 256}, stage="orpo").spec.train
    assert (orpo["max_length"], orpo["max_prompt_length"]) == (1280, 1024)


def test_the_sft_documents_whole_argument_list(tmp_path: Path) -> None:
    """Section "parameters" of the SFT document, as it is written there."""
    loaded = load(
        tmp_path,
        {
            "model_name_or_path": "m",
            "tokenizer_name_or_path": "t",
            "model_max_length": 2048,
            "lora_rank": 8,
            "lora_alpha": 16,
            "lora_dropout": 0.05,
            "target_modules": "all",
            "learning_rate": 2e-5,
            "num_train_epochs": 1,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 4,
            "flash_attn": True,
            "gradient_checkpointing": True,
            "preprocessing_num_workers": 8,
            "dataloader_num_workers": 4,
            "load_in_8bit": True,
            "quantization_type": "8bit",
            "train_file_dir": "a,b",
            "validation_file_dir": "c,d",
            "do_train": True,
            "do_eval": True,
            "overwrite_output_dir": True,
        },
    )
    assert loaded.spec.data == Data(train=["a", "b"], validation=["c", "d"])
    assert loaded.effective_batch_size == 2 * 4


@pytest.mark.parametrize("value", [True, False, "output/x/checkpoint-3"])
def test_a_run_may_resume_from_the_last_checkpoint_or_a_named_one(tmp_path: Path, value: Any) -> None:
    assert load(tmp_path, {"resume_from_checkpoint": value}).spec.train["resume_from_checkpoint"] == value
