"""Each stage's defaults for keys missing in the job file: the values of the user's documents, each with its source.

Sources: "ORPO", "RM", "SFT", "DeepSpeed" and "DDP" are the five documents, "§" their section. "script" is a default of
the script that a document describes; "alignlaunch" is our own choice. `alignlaunch init STAGE` writes all of them into
the starter file, where the user sees and changes them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alignlaunch.train.config import Stage


class Default(NamedTuple):
    key: str  # dotted
    value: Any
    source: str
    #: A job file key, or NO_LORA, that makes this default meaningless: with it the default is not applied.
    unless: str = ""


#: A value of `unless`: a learning rate chosen for LoRA is too high for a full fine-tune.
NO_LORA = "lora: null"

COMMON = [
    Default("nnodes", 1, "alignlaunch"),
    Default("nproc_per_node", 1, "alignlaunch"),
    Default("launcher", "torchrun", "ORPO, RM, SFT: title"),
    Default("train.bf16", True, "ORPO §5; SFT; DeepSpeed §5; DDP"),
    Default("train.gradient_checkpointing", True, "ORPO §5; SFT; DDP"),
    Default("train.report_to", "tensorboard", "DDP"),
    Default("train.logging_steps", 1, "script"),
    Default("train.save_total_limit", 2, "alignlaunch"),  # with optimizer state each is several times the model
]

_LORA_8 = [
    Default("lora.r", 8, "ORPO §5"),
    Default("lora.alpha", 16, "ORPO §5"),
    Default("lora.dropout", 0.05, "ORPO §5"),
    Default("lora.target_modules", "all", "SFT"),
]
_SAFE_DPO_TRAIN = [
    Default("train.per_device_train_batch_size", 4, "DDP (2-4), script"),
    Default("train.gradient_accumulation_steps", 4, "DDP (4-8), script"),
    Default("train.num_train_epochs", 2, "script"),
    Default("train.learning_rate", 5e-7, "DDP"),
    Default("train.beta", 0.1, "script"),
    Default("train.max_length", 1024, "DDP"),
    Default("lora.r", 16, "script"),
    Default("lora.alpha", 32, "script"),
    Default("lora.dropout", 0.1, "script"),
    Default("lora.target_modules", "all", "SFT"),
]

STAGES: dict[Stage, list[Default]] = {
    "orpo": [
        Default("zero", 3, "ORPO §2"),
        Default("data.max_train_samples", 1000, "ORPO §5"),
        Default("data.max_eval_samples", 50, "ORPO §5"),
        Default("train.per_device_train_batch_size", 1, "ORPO §5"),
        Default("train.per_device_eval_batch_size", 1, "ORPO §5"),
        Default("train.gradient_accumulation_steps", 4, "ORPO §5"),
        Default("train.max_steps", 100, "ORPO §5", unless="train.num_train_epochs"),
        Default("train.eval_strategy", "steps", "script"),
        Default("train.eval_steps", 20, "ORPO §5"),
        Default("train.save_steps", 50, "ORPO §5"),
        Default("train.learning_rate", 5e-4, "script", unless=NO_LORA),
        Default("train.lr_scheduler_type", "cosine", "script"),
        Default("train.beta", 0.1, "script"),
        Default("train.max_length", 512, "script: 256 source + 256 target"),
        Default("train.max_prompt_length", 256, "script: 256 source", unless="train.max_length"),
        *_LORA_8,
    ],
    "rm": [
        Default("zero", 3, "RM §2"),
        Default("data.max_train_samples", 1000, "RM §5"),
        Default("data.max_eval_samples", 10, "RM §5"),
        Default("train.per_device_train_batch_size", 1, "RM §5"),
        Default("train.per_device_eval_batch_size", 1, "RM §5"),
        Default("train.gradient_accumulation_steps", 8, "RM §5"),
        Default("train.num_train_epochs", 1, "RM §5"),
        Default("train.learning_rate", 2e-5, "RM §5"),
        Default("train.weight_decay", 0.001, "RM §5"),
        Default("train.warmup_steps", 0.05, "RM §5 (warmup_ratio)"),
        Default("train.max_length", 1280, "RM §5: 1024 source + 256 target"),
        *_LORA_8,
    ],
    "sft": [
        Default("zero", 2, "SFT, memory"),
        Default("train.per_device_train_batch_size", 1, "SFT, training"),
        Default("train.gradient_accumulation_steps", 8, "SFT, training"),
        Default("train.num_train_epochs", 1, "SFT, training"),
        Default("train.learning_rate", 2e-5, "SFT, training"),
        Default("train.weight_decay", 0.05, "script"),
        Default("train.max_length", 2048, "SFT, model (model_max_length)"),
        Default("train.eval_strategy", "steps", "script"),
        Default("train.eval_steps", 50, "script"),
        Default("train.save_steps", 500, "script"),
        Default("lora.r", 8, "SFT, LoRA"),
        Default("lora.alpha", 16, "SFT, LoRA"),
        Default("lora.dropout", 0.05, "SFT, LoRA"),
        Default("lora.target_modules", "all", "SFT, LoRA"),
    ],
    "pt": [
        Default("zero", 3, "DeepSpeed §1"),
        Default("data.max_train_samples", 10000, "DeepSpeed §2.3"),
        Default("data.max_eval_samples", 10, "DeepSpeed §2.3"),
        Default("train.per_device_train_batch_size", 1, "DeepSpeed §2.3"),
        Default("train.per_device_eval_batch_size", 1, "DeepSpeed §2.3"),
        Default("train.gradient_accumulation_steps", 16, "DeepSpeed §2.3"),
        Default("train.num_train_epochs", 0.5, "DeepSpeed §2.3"),
        Default("train.learning_rate", 2e-4, "DeepSpeed §2.3", unless=NO_LORA),
        Default("train.weight_decay", 0.01, "DeepSpeed §2.3"),
        Default("train.warmup_steps", 0.05, "DeepSpeed §2.3 (WARMUP_RATIO)"),
        *_LORA_8,
    ],
    "dpo": [
        Default("zero", 0, "DDP: title"),
        # TRL averages its evaluation metrics over batches. With one pair a batch the average is exact for any number of
        # processes.
        Default("train.per_device_eval_batch_size", 1, "alignlaunch"),
        *_SAFE_DPO_TRAIN,
    ],
    "safe_dpo": [
        Default("zero", 0, "DDP: title"),
        Default("train.objective", "lagrangian", "DDP, quick start (Safe-MM-DPO)"),
        Default("train.scores", "precomputed", "alignlaunch; DDP: live"),
        Default("train.mm_w", 0.5, "script"),
        Default("train.mm_k", 0.5, "script"),
        Default("train.kl_coef", 0.1, "script"),
        Default("train.lambda_init", 1.0, "script"),
        Default("train.lambda_lr", 0.01, "script"),
        *_SAFE_DPO_TRAIN,
    ],
}


def for_stage(stage: Stage) -> list[Default]:
    """The common defaults, then the stage's own."""
    return [*COMMON, *STAGES[stage]]


def merged(stage: Stage, data: dict[str, Any]) -> dict[str, Any]:
    """The stage's defaults overridden by `data`. Maps merge key by key; null or another type replaces a whole map."""
    tree: dict[str, Any] = {}
    for default in for_stage(stage):
        if displaced(default, data):
            continue
        *parents, last = default.key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = default.value
    return _overlay(tree, data)


def displaced(default: Default, data: dict[str, Any]) -> bool:
    """Whether the job file makes a default meaningless (`Default.unless`)."""
    if default.unless == NO_LORA:
        return "lora" in data and data["lora"] in (None, False)
    return bool(default.unless) and given(data, default.unless)


def given(data: dict[str, Any], key: str) -> bool:
    """Whether the job file itself sets a dotted key."""
    node: Any = data
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


#: Defaults that make a run shorter than a reader of the job file would expect; the user is notified of them.
_SHORTENING = ("data.max_train_samples", "train.max_steps", "train.num_train_epochs")


def notes(stage: Stage, data: dict[str, Any]) -> list[str]:
    """Notes for the user: how much of machine and model takes part, what shortens the run, what is not applied."""
    found = []
    if not given(data, "nproc_per_node"):
        found.append("nproc_per_node: 1 is the default, not set in the job file; one process for each GPU of a node")
    if not given(data, "lora"):
        found.append(_lora(stage))
    for default in for_stage(stage):
        if given(data, default.key):
            continue
        if displaced(default, data):
            why = f"the stage's default, {default.value}, is not used because of `{default.unless}`"
            found.append(f"{default.key}: {why}; without a value in the job file the trainer's own default applies")
        elif default.key in _SHORTENING and not (default.key == "train.num_train_epochs" and default.value >= 1):
            found.append(
                f"{default.key}: {default.value} is the stage's default ({default.source}), not set in the job file"
            )
    return found


def _lora(stage: Stage) -> str:
    parts = [default for default in for_stage(stage) if default.key.startswith("lora.")]
    values = ", ".join(f"{default.key.removeprefix('lora.')}={default.value}" for default in parts)
    sources = "; ".join(dict.fromkeys(default.source for default in parts))
    return (
        f"lora: {values} is the stage's default ({sources}), not set in the job file; `lora: null` trains all weights"
    )


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _overlay(result[key], value) if both else value
    return result
