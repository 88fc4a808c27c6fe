"""Whether a job still is the job that wrote a checkpoint, so that it can go on from there. No torch here."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import msgspec

from ..config import TrainConfig

#: Arguments of the trainer that change how, where and how often something is done, but not what is learnt.
#: (The batch is held to the checkpoint's by `batch.keep`.)
_HOW = (
    *("logging_*", "log_*", "eval_*", "save_*", "hub_*", "trackio_*", "push_to_hub", "report_to", "run_name"),
    *("project", "per_device_*", "gradient_accumulation_steps", "dataset_num_proc", "dataloader_[!d]*", "ddp_*"),
    *("precompute_ref_*", "gradient_checkpointing*", "activation_*", "torch_*", "tf32", "*_full_eval", "use_cache"),
    *("*liger_kernel*", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "debug"),
    *("skip_memory_metrics", "include_num_input_tokens_seen", "resume_from_checkpoint"),
    "restore_callback_states_from_checkpoint",
)
#: Arguments that a person may change on the way: how long and how fast to train.
_SCHEDULE = (
    *("learning_rate", "lr_scheduler_*", "warmup_*", "max_steps", "num_train_epochs", "max_grad_norm"),
    *("bf16", "fp16"),
)
_DATA_HOW = ("cache_dir", "validation", "max_eval_samples", "skip_bad_records")


def of(job: TrainConfig) -> dict[str, Any]:
    """What of a job decides what is learnt, by dotted key: model, data, adapter, objective, schedule."""
    found = msgspec.to_builtins(job)
    train, data = found.pop("train"), found.pop("data")
    keys = ("stage", "model", "tokenizer", "quantization", "lora")
    return (
        {key: found[key] for key in keys}
        | {f"data.{key}": value for key, value in data.items() if key not in _DATA_HOW}
        | {f"train.{key}": value for key, value in train.items() if not _is(key, _HOW)}
    )


def differences(before: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The keys whose values differ, in words: those that make it another job, and those of its schedule."""
    other: list[str] = []
    schedule: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            words = f"{key}: {before.get(key)} before, {now.get(key)} now"
            (schedule if _is(key.removeprefix("train."), _SCHEDULE) else other).append(words)
    return other, schedule


def _is(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)
