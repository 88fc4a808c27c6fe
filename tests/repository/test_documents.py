"""examples/documents: each document's figures are what its job file resolves to, for Slurm and for bash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile, pipeline
from alignlaunch.launchers.render.render import targets

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENTS = EXAMPLES / "documents"

QWEN = {"model": "../model/Qwen/Qwen3-0.6B"}
TWO_BY_FOUR = {"nnodes": 2, "nproc_per_node": 4}
LORA_8 = {"lora.r": 8, "lora.alpha": 16, "lora.dropout": 0.05, "lora.target_modules": "all"}
EIGHT_GPUS = {"launcher": "torchrun", "zero": 0, "deepspeed": None, "nnodes": 1, "nproc_per_node": 8}
SAVES_MEMORY = {"train.bf16": True, "train.gradient_checkpointing": True}

#: Job file → what its document says.
FIGURES: dict[str, dict[str, Any]] = {
    "orpo": {
        **QWEN, **TWO_BY_FOUR, **LORA_8, **SAVES_MEMORY,
        "stage": "orpo", "launcher": "torchrun", "zero": 3, "deepspeed": "zero3.json",
        "tokenizer": "../output/tokenizers_merge", "data.train": ["../data/reward"],
        "data.cache_dir": "../output/cache", "output_dir": "../output/orpo_zero3",
        "data.max_train_samples": 1000, "data.max_eval_samples": 50,
        "train.per_device_train_batch_size": 1, "train.per_device_eval_batch_size": 1,
        "train.gradient_accumulation_steps": 4,
        "train.max_steps": 100, "train.eval_steps": 20, "train.save_steps": 50,
    },
    "rm": {
        **QWEN, **TWO_BY_FOUR, **LORA_8,
        "stage": "rm", "launcher": "torchrun", "zero": 3, "deepspeed": "zero3.json", "train.bf16": True,
        "data.max_train_samples": 1000, "data.max_eval_samples": 10,
        "train.per_device_train_batch_size": 1, "train.per_device_eval_batch_size": 1,
        "train.gradient_accumulation_steps": 8, "train.num_train_epochs": 1, "train.learning_rate": 2e-5,
        "train.weight_decay": 0.001, "train.warmup_steps": 0.05, "train.max_length": 1024 + 256,
    },
    "sft": {
        **TWO_BY_FOUR, **LORA_8, **SAVES_MEMORY,
        "stage": "sft", "launcher": "torchrun", "zero": 2, "offload": "optimizer",
        "attn_implementation": "flash_attention_2", "train.max_length": 2048,
        "train.learning_rate": 2e-5, "train.num_train_epochs": 1, "train.per_device_train_batch_size": 1,
        "train.gradient_accumulation_steps": 8, "train.dataset_num_proc": 8, "train.dataloader_num_workers": 4,
    },
    "pretraining": {
        **QWEN, **TWO_BY_FOUR,
        "stage": "pt", "launcher": "deepspeed", "zero": 3, "deepspeed": "zero3.json", "train.bf16": True,
        "data.max_train_samples": 10000, "data.max_eval_samples": 10,
        "train.per_device_train_batch_size": 1, "train.per_device_eval_batch_size": 1,
        "train.gradient_accumulation_steps": 16, "train.num_train_epochs": 0.5, "train.learning_rate": 2e-4,
        "train.weight_decay": 0.01, "train.warmup_steps": 0.05,
    },
    "helpful-rm": {
        **EIGHT_GPUS, **SAVES_MEMORY,
        "stage": "rm", "output_dir": "models/helpful_rm", "data.max_train_samples": None,
        "train.per_device_train_batch_size": 8, "train.gradient_accumulation_steps": 1,
        "train.max_length": 1024, "train.learning_rate": 2e-5,
    },
    "safe-dpo": {
        **EIGHT_GPUS, **SAVES_MEMORY,
        "stage": "safe_dpo", "output_dir": "models/aligned",
        "env.TENSORBOARD_LOGGING_DIR": "logs/training/safe_mm_dpo",
        "train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 4, "train.learning_rate": 5e-7,
        "train.objective": "lagrangian", "train.scores": "live",
        "train.helpful_reward_model": "models/helpful_rm", "train.harmless_reward_model": "models/harmless_rm",
    },
}  # fmt: skip


def test_every_example_is_known_here() -> None:
    assert {path.stem for path in DOCUMENTS.glob("*.yaml")} == {*FIGURES, "safe-dpo-chain"}


@pytest.mark.parametrize("name", FIGURES)
def test_the_documents_figures(name: str) -> None:
    resolved = jobfile.load(DOCUMENTS / f"{name}.yaml").resolved()
    found = {}
    for key in FIGURES[name]:
        value: Any = resolved
        for part in key.split("."):
            value = value[part]
        found[key] = value
    assert found == FIGURES[name]


def test_the_documents_batch_of_64() -> None:
    """Effective batch size: 8 x 8 GPUs x 1."""
    assert jobfile.load(DOCUMENTS / "helpful-rm.yaml").effective_batch_size == 64


def test_the_whole_chain_of_the_last_document() -> None:
    chain = pipeline.load(DOCUMENTS / "safe-dpo-chain.yaml")
    assert chain.needs == {"helpful": [], "harmless": [], "policy": ["helpful", "harmless"]}
    helpful, harmless, policy = (step.resolved() for step in chain.jobs.values())
    assert (helpful["output_dir"], harmless["output_dir"]) == ("models/helpful_rm", "models/harmless_rm")
    assert policy["train"]["helpful_reward_model"] == helpful["output_dir"]
    assert policy["train"]["harmless_reward_model"] == harmless["output_dir"]
    assert helpful["train"] == harmless["train"]
    assert helpful["data"]["train"] != harmless["data"]["train"]
    # What comes of the steps is the document's jobs: the policy of the chain is that of its own file.
    assert policy == jobfile.load(DOCUMENTS / "safe-dpo.yaml").resolved()


@pytest.mark.parametrize(
    "path",
    [*sorted(EXAMPLES.glob("*.yaml")), *sorted(DOCUMENTS.glob("*.yaml"))],
    ids=lambda path: str(path.relative_to(EXAMPLES)),
)
def test_every_example_renders_and_is_in_the_table(path: Path) -> None:
    for loaded in pipeline.load(path).jobs.values():
        for target in targets(loaded):
            assert drift.artifacts(loaded, target, drift.folder_of(loaded, target))
    assert path.name in (EXAMPLES / "README.md").read_text(encoding="utf-8")
