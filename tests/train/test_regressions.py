"""What the original scripts promised and got wrong: twelve points, each a test of its number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import job, jobfile
from alignlaunch.launchers.submit import data_checks
from alignlaunch.train.config import TrainConfig
from alignlaunch.train.model import loading
from alignlaunch.train.stages import sft
from tests.support.tiny import WORDS

from .conftest import Runner

LORA = {"r": 2, "alpha": 4, "dropout": 0.0}


def load(folder: Path, **keys: Any) -> job.Job:
    """A job file of these keys, validated."""
    base = {"name": "old", "stage": "sft", "model": "model", "data": {"train": ["data"]}}
    (folder / "job.yaml").write_text(json.dumps(base | keys))
    return jobfile.load(folder / "job.yaml")


def arguments_of(output_dir: Path) -> Any:
    """What the trainer was really given."""
    return torch.load(output_dir / "training_args.bin", weights_only=False)


@pytest.fixture
def bash(tmp_path: Path) -> Path:
    """A rendered launch/old/bash/, and `python`, a stub that writes down how it was started."""
    rendered = load(tmp_path, nnodes=2, nproc_per_node=4, zero=2)
    folder = drift.folder_of(rendered, "bash")
    drift.write(folder, drift.artifacts(rendered, "bash", folder))
    stub = tmp_path / "python"
    stub.write_text(
        "#!/bin/bash\n"
        '{ printf "%s\\n" "$@"; echo "WORLD_SIZE=${WORLD_SIZE-unset}"; env; } > "$(dirname "$0")/started"\n'
        'while [[ $# -gt 0 ]]; do [[ $1 != --hostfile ]] || cat "$2" > "$(dirname "$0")/hosts"; shift; done\n'
    )
    stub.chmod(0o755)
    return folder


def start(script: Path, *arguments: str, **env: str) -> list[str]:
    """Run a script from a folder that is not its own; returns how it started its launcher."""
    here = script.parents[3]
    environment = os.environ | {"ALIGNLAUNCH_PYTHON": str(here / "python")} | env
    subprocess.run(["bash", script, *arguments], cwd="/", env=environment, check=True, capture_output=True)
    return (here / "started").read_text().splitlines()


def test_01_orpo_trains_with_the_deepspeed_config_and_the_weight_decay_it_is_given(run_job: Runner) -> None:
    found = run_job("regression-1", stage="orpo", zero="zero3.json", train={"weight_decay": 0.125, "max_steps": 1})
    assert found.code == 0, found.stderr
    args = arguments_of(found.output_dir)
    assert (args.deepspeed["zero_optimization"]["stage"], args.weight_decay) == (3, 0.125)


def test_02_accumulation_is_never_divided_by_the_number_of_processes(tmp_path: Path) -> None:
    found = load(tmp_path, stage="orpo", nproc_per_node=8, train={"gradient_accumulation_steps": 4})
    assert found.resolved()["train"]["gradient_accumulation_steps"] == 4
    assert found.effective_batch_size == 1 * 8 * 4


def test_03_the_deepspeed_launcher_gets_a_hostfile_no_ssh_and_the_true_head(bash: Path) -> None:
    started = start(bash / "deepspeed.sh", "2", "2", "4", "10.0.0.1", "29500", NODE_RANK="1")
    options = dict(pairwise(started))
    assert "--no_ssh" in started
    assert (options["--node_rank"], options["--master_addr"], options["--master_port"]) == ("1", "10.0.0.1", "29500")
    hosts = (bash.parents[2] / "hosts").read_text().splitlines()
    assert [line.split(" ")[1] for line in hosts] == ["slots=4", "slots=4"]


def test_04_zero_3_saves_from_all_ranks_and_does_not_hang(run_job: Runner) -> None:
    train = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    found = run_job("regression-4", nproc=2, zero="zero3.json", train=train)
    assert found.code == 0, found.stderr
    for folder in (found.output_dir, found.output_dir / "checkpoint-2"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder)
        assert all(parameter.numel() and parameter.isfinite().all() for parameter in loaded.parameters())


def test_05_a_comma_separated_train_file_dir_and_quantization_type_are_understood(tmp_path: Path) -> None:
    old = {"train_file_dir": "a, b", "quantization_type": "8bit"}
    found = load(tmp_path, data={}, train=old, lora={"r": 8}).spec
    assert ([source.path for source in found.data.sources("train")], found.quantization) == (["a", "b"], "8bit")


def test_06_flash_attn_reaches_attn_implementation(tmp_path: Path, workplace: Path) -> None:
    assert load(tmp_path, train={"flash_attn": True}).spec.attn_implementation == "flash_attention_2"
    for kind in ("eager", "sdpa"):
        assert _network(workplace, attn_implementation=kind).config._attn_implementation == kind


def test_07_each_process_loads_onto_its_own_device_alone(workplace: Path) -> None:
    assert not hasattr(_network(workplace), "hf_device_map")
    quantized, args = _job(workplace, quantization="4bit", lora=LORA)
    assert loading._quantized(quantized, torch.float32, args)["device_map"] == {"": args.device}


@pytest.mark.parametrize(("device", "zero", "there"), [("cuda:1", 0, True), ("cuda:1", 2, True), ("cuda:1", 3, False)])
def test_07_a_gpus_weights_are_loaded_onto_it(device: str, zero: int, there: bool) -> None:
    plugin = SimpleNamespace(zero_stage=zero) if zero else None
    args = SimpleNamespace(device=torch.device(device), deepspeed_plugin=plugin)
    assert loading.placement(args) == ({"device_map": {"": torch.device(device)}} if there else {})


def _job(workplace: Path, **changes: Any) -> tuple[TrainConfig, Any]:
    given = {
        "name": "x",
        "stage": "sft",
        "model": str(workplace / "model"),
        "data": {"train": ["x"]},
        "output_dir": "o",
    }
    args = sft.Config(output_dir="out", use_cpu=True, bf16=False, report_to="none")
    return msgspec.convert(given | changes, TrainConfig), args


def _network(workplace: Path, **changes: Any) -> Any:
    wanted, args = _job(workplace, **changes)
    return loading.load_model(wanted, args, loading.load_tokenizer(wanted), "fp32")


def test_08_lengths_are_counted_in_tokens_and_training_data_as_validation_is_told(workplace: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    text = " ".join(WORDS)
    record = {"prompt": text, "completion": f" {text}"}
    tokens = len(tokenizer(record["prompt"] + record["completion"])["input_ids"])
    args = sft.Config(output_dir="out", use_cpu=True, bf16=False, max_length=tokens + 1, report_to="none")
    assert len(text) > tokens
    assert not sft.encoder(tokenizer, args)(record).truncated
    checked = load(workplace, data={"train": ["sft.jsonl"], "validation": ["sft.jsonl"]})
    assert any("sft.jsonl" in line and "validation" in line for line in data_checks.check(checked))


def test_09_load_in_4bit_needs_no_qlora_beside_it(tmp_path: Path) -> None:
    assert load(tmp_path, train={"load_in_4bit": True}, lora={"r": 8}).spec.quantization == "4bit"


def test_10_the_score_head_is_trained_and_saved_with_the_adapter(run_job: Runner, workplace: Path) -> None:
    scorer: Any = AutoModelForSequenceClassification.from_pretrained(workplace / "model", num_labels=1)
    scorer.config.pad_token_id = 1
    scorer.save_pretrained(workplace / "scorer")
    AutoTokenizer.from_pretrained(workplace / "model").save_pretrained(workplace / "scorer")
    found = run_job("regression-10", stage="rm", model="scorer", lora=LORA)
    assert found.code == 0, found.stderr
    saved = load_file(found.output_dir / "adapter_model.safetensors")
    (head,) = (weight for name, weight in saved.items() if "score" in name)
    assert not torch.equal(head, scorer.score.weight)


def test_11_a_reward_model_keeps_gradient_checkpointing_under_ddp(run_job: Runner) -> None:
    train = {"gradient_checkpointing": True, "max_steps": 2}
    found = run_job("regression-11", nproc=2, stage="rm", train=train, lora=LORA)
    assert found.code == 0, found.stderr
    assert "find_unused_parameters" not in found.stderr, "DDP warns that it looked in vain"
    assert arguments_of(found.output_dir).gradient_checkpointing


@pytest.mark.parametrize("script", ["torchrun.sh", "deepspeed.sh"])
def test_12_the_zero_json_lies_beside_the_script_and_world_size_counts_nodes_there(bash: Path, script: str) -> None:
    started = start(bash / script, WORLD_SIZE="2", NPROC_PER_NODE="4", NODE_RANK="0", MASTER_ADDR="10.0.0.1")
    options = dict(pairwise(started))
    assert options["--deepspeed"] == str(bash / "zero2.json")
    if script == "torchrun.sh":
        assert "PET_NNODES=2" in started
    else:
        assert len((bash.parents[2] / "hosts").read_text().splitlines()) == 2
    assert "WORLD_SIZE=unset" in started, "it would count nodes where processes are meant"


def test_there_are_twelve() -> None:
    names = [name for name in dir(sys.modules[__name__]) if name[:5] == "test_" and name[5:7].isdigit()]
    assert sorted({int(name[5:7]) for name in names}) == list(range(1, 13))
