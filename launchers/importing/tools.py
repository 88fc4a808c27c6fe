"""Programs of one's own and TRL's: what their names are here, and what they do where they are silent."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from alignlaunch.train.config import Stage

from ..job.legacy import Move
from .arguments import Tool, off

_FULL = "all weights are trained"

#: transformers.TrainingArguments (5.24), for every key that a stage here has a default for.
TRANSFORMERS: dict[str, Any] = {
    "data.max_train_samples": None,
    "data.max_eval_samples": None,
    "train.per_device_train_batch_size": 8,
    "train.per_device_eval_batch_size": 8,
    "train.gradient_accumulation_steps": 1,
    "train.num_train_epochs": 3,
    "train.learning_rate": 5e-5,
    "train.weight_decay": 0.0,
    "train.warmup_steps": 0,
    "train.lr_scheduler_type": "linear",
    "train.logging_steps": 500,
    "train.save_steps": 500,
    "train.save_total_limit": None,
    "train.eval_strategy": "no",
    "train.report_to": "none",
    "train.bf16": False,
    "train.gradient_checkpointing": False,
}
_TRL_RATES: dict[str, float] = {"sft": 2e-5, "dpo": 1e-6, "rm": 1e-4, "orpo": 1e-6}


def trl_defaults(stage: Stage) -> dict[str, Any]:
    """trl 1.16: SFTConfig, DPOConfig, RewardConfig, ORPOConfig, and ModelConfig's LoRA."""
    found = TRANSFORMERS | {
        "train.learning_rate": _TRL_RATES.get(stage, 5e-5),
        "train.logging_steps": 10,
        "train.bf16": True,
        "train.gradient_checkpointing": True,
        "train.max_length": 1024,
        **{"lora.r": 16, "lora.alpha": 32, "lora.dropout": 0.05},
    }
    return found | ({"train.beta": 0.1} if stage in ("dpo", "orpo") else {})


def family_defaults(stage: Stage) -> dict[str, Any]:
    """The documents' programs have the stages' defaults, but for those that make a run shorter: scripts gave them."""
    del stage
    return {
        key: TRANSFORMERS[key] for key in ("data.max_train_samples", "data.max_eval_samples", "train.num_train_epochs")
    }


def share(value: Any) -> Any:
    """A percentage as a part of 1; None for what is none."""
    return value / 100 if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 100 else None


def paths(value: Any) -> list[Any]:
    """One source of data, or several."""
    if isinstance(value, list):
        return value
    return [part for part in re.split(r"[,\s]+", str(value)) if part] or [str(value)]


_AUTO = "the model's own files say it"
OWN = Tool(
    "the program",
    moves={
        "batch_size": Move("train.per_device_train_batch_size", "taken as the batch of one process"),
        "micro_batch_size": Move("train.per_device_train_batch_size", ""),
        "lr": Move("train.learning_rate", ""),
        "epochs": Move("train.num_train_epochs", ""),
        "num_epochs": Move("train.num_train_epochs", ""),
        "max_seq_length": Move("train.max_length", "TRL's name"),
        "max_seq_len": Move("train.max_length", "TRL's name"),
        "dpo_beta": Move("train.beta", "TRL's name"),
        "model": Move("model", ""),
        "model_name": Move("model", ""),
        "model_path": Move("model", ""),
        "train_file": Move("data.train", "", paths),
        "train_data": Move("data.train", "", paths),
        "dataset_path": Move("data.train", "", paths),
        "data_path": Move("data.train", "", paths),
        "dataset_name": Move("data.train", "", paths),
        "validation_file": Move("data.validation", "", paths),
        "eval_file": Move("data.validation", "", paths),
        "eval_data_path": Move("data.validation", "", paths),
        "validation_split_percentage": Move("data.validation_share", "a part of 1", share),
        "helpful_rm": Move("train.helpful_reward_model", ""),
        "harmless_rm": Move("train.harmless_reward_model", ""),
        "model_type": Move(None, _AUTO),
        "device_map": Move(None, "each process has its own GPU"),
        "local_rank": Move(None, "the launcher says it"),
        "lora_r": Move("lora.r", ""),
        "use_lora": Move("lora", _FULL, lambda value: False if off(value) else None),
    },
    defaults=lambda _: TRANSFORMERS,
    known=False,
)
#: Arguments by which the documents' programs are known.
FAMILY_NAMES = frozenset({"train_file_dir", "orpo_beta", "max_source_length"})
FAMILY = replace(OWN, defaults=family_defaults)

TRL = Tool(
    "TRL",
    moves={
        "dataset_name": Move("data.train", "", paths),
        "dataset_streaming": Move(None, "every record is read", unless=True),
        "ignore_bias_buffers": Move(None, "a workaround for DDP", unless=True),
        "lora_r": Move("lora.r", ""),
        "lora_target_modules": Move("lora.target_modules", "", lambda value: "all" if value == "all-linear" else value),
        "use_dora": Move("lora.dora", ""),
        "lora_task_type": Move(None, "the stage says it"),
        "use_bnb_nested_quant": Move(None, "alignlaunch always does"),
        "bnb_4bit_quant_type": Move(None, "nf4 is what `quantization: 4bit` is", unless="fp4"),
    },
    only={"model_revision": "main"},
    off=frozenset(
        "dataset_config use_rslora lora_modules_to_save lora_target_parameters bnb_4bit_quant_storage streaming".split()
    ),
    defaults=trl_defaults,
)
