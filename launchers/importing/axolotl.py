"""A YAML file of axolotl: which kind of training it is, and what takes several of its keys together."""

from __future__ import annotations

from typing import Any

from alignlaunch.train.config import Stage

from ..errors import UsageError
from .arguments import off, plain
from .found import Found, Given

_TEMPLATE = "the model's own chat template is used: compare with `alignlaunch data`"


def stage(data: dict[str, Any]) -> Stage:
    """Raises UsageError for a kind of training that alignlaunch does not have."""
    rl = data.get("rl")
    if rl is None:
        return "rm" if data.get("reward_model") is True else "pt" if data.get("pretraining_dataset") else "sft"
    if rl in ("dpo", "ipo"):
        return "dpo"
    if rl == "orpo":
        return "orpo"
    raise UsageError(f"rl {rl}: alignlaunch does not train it\n    remedy: dpo, ipo or orpo, reward_model, or none")


def prepare(found: Found, given: list[Given]) -> list[Given]:
    """Put what takes several keys together; returns the others."""
    said = {plain(one): one for one in given}
    if str(said["rl"].value if "rl" in said else "") == "ipo":
        found.put("train.loss_type", ["ipo"], said["rl"])
    _adapter(found, said)
    _data(found, said)
    _steps(found, said)
    _precision(found, said)
    _reports(found, said)
    if (template := said.pop("chat_template", None)) is not None:
        (found.drop if template.value == "tokenizer_default" else found.refuse)(template, _TEMPLATE)
    if (tokens := said.pop("special_tokens", None)) is not None:
        (found.drop if off(tokens.value) or tokens.value == {} else found.refuse)(
            tokens, "the tokenizer's own are used"
        )
    if (plugins := said.pop("plugins", None)) is not None:
        of_liger = "liger" in str(plugins.value).lower() and isinstance(plugins.value, list) and len(plugins.value) == 1
        (found.drop if of_liger else found.refuse)(
            plugins, "Liger's kernels are `train.use_liger_kernel`; others are not here"
        )
    if (hub := said.get("hub_model_id")) is not None:
        found.put("train.push_to_hub", True, hub)
    return list(said.values())


def _adapter(found: Found, said: dict[str, Given]) -> None:
    adapter = said.pop("adapter", None)
    if adapter is None:
        found.put("lora", None, Given("adapter", None, 0), "without `adapter` all weights are trained")
    elif adapter.value == "qlora":
        found.put("quantization", "4bit", adapter)
    elif adapter.value == "lora":
        found.drop(adapter, "`lora` says it")
    else:
        found.refuse(adapter, "alignlaunch trains a LoRA adapter, or all weights")


def _data(found: Found, said: dict[str, Given]) -> None:
    for name, key in (
        ("datasets", "data.train"),
        ("pretraining_dataset", "data.train"),
        ("test_datasets", "data.validation"),
    ):
        one = said.pop(name, None)
        if one is None:
            continue
        entries = one.value if isinstance(one.value, list) else [one.value]
        sources = [source for entry in entries for source in _entry(found, one, entry)]
        if sources:
            found.put(key, sources, one)
    size = said.pop("val_set_size", None)
    if size is not None and off(size.value):
        found.drop(size, "nothing is held out, as here")
    elif size is not None and isinstance(size.value, float) and size.value < 1:
        found.put("data.validation_share", size.value, size)
    elif size is not None:
        found.refuse(size, "a number of records; `data.validation_share` is a part of them")


def _entry(found: Found, given: Given, entry: Any) -> list[str]:
    """The sources of one data set; what else it says is dropped or refused."""
    if isinstance(entry, str):
        return [entry]
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        found.refuse(given, "a data set without a path")
        return []
    path, files = entry["path"], entry.get("data_files")
    split = entry.get("split")
    for key, value in entry.items():
        one = given._replace(name=f"{given.name}.{key}", value=value)
        if key in ("path", "data_files") or value is None:
            continue
        if key == "split" and isinstance(value, str) and value.isidentifier():
            found.drop(one, "part of the source's name")
        elif key in ("type", "ds_type"):
            found.drop(one, "formats are recognised by their columns (docs/data.md)")
        elif key == "split":
            found.refuse(one, "a part of a split: write it as a file of its own, or limit `data.max_train_samples`")
        else:
            found.refuse(one, "`data.columns` renames columns; see docs/data.md, and `alignlaunch data`")
    if files is not None:
        return [str(file) for file in (files if isinstance(files, list) else [files])]
    named = isinstance(split, str) and split.isidentifier() and split != "train" and entry.get("ds_type") is None
    return [f"{path}:{split}" if named else path]


def _steps(found: Found, said: dict[str, Given]) -> None:
    """Batches, and how often to save and to evaluate: axolotl counts these by the epoch."""
    epochs = said["num_epochs"].value if "num_epochs" in said else 1
    micro = said["micro_batch_size"].value if "micro_batch_size" in said else 1
    batch = said.pop("batch_size", None)
    if batch is not None and "gradient_accumulation_steps" in said:
        found.drop(batch, "micro_batch_size and gradient_accumulation_steps say it")
    elif batch is not None and all(type(n) is int and n > 0 for n in (batch.value, micro)):
        found.put(
            "train.gradient_accumulation_steps", max(batch.value // micro, 1), batch, "batch_size / micro_batch_size"
        )
    elif batch is not None:
        found.refuse(batch, "a number is expected")
    if "eval_batch_size" not in said:
        found.default("train.per_device_eval_batch_size", micro, "axolotl (micro_batch_size)")
    _every(found, said, "saves_per_epoch", "save", epochs)
    evaluates = "data.validation" in found.job or "data.validation_share" in found.job
    if evaluates:
        _every(found, said, "evals_per_epoch", "eval", epochs)
        if "eval_steps" in said:
            found.put("train.eval_strategy", "steps", said["eval_steps"])
        if "train.eval_steps" in found.job or "eval_steps" in said or "eval_strategy" in said:
            found.default("train.eval_on_start", True, "axolotl")
    elif (evals := said.pop("evals_per_epoch", None)) is not None:
        found.drop(evals, "there is nothing to evaluate on")
    if "save_steps" in said:
        found.default("train.save_strategy", "steps", "axolotl")
    elif "train.save_steps" not in found.job and "save_strategy" not in said:
        found.default("train.save_strategy", "epoch", "axolotl")
    if "warmup_steps" not in said and "warmup_ratio" not in said:
        found.fill("train.warmup_steps", 0.03, "axolotl's 3 % of the steps; there at most 100 steps")
    if "logging_steps" not in said:
        found.fill("train.logging_steps", 10, "axolotl's 0.5 % of the steps; there between 1 and 10")


def _every(found: Found, said: dict[str, Given], name: str, what: str, epochs: Any) -> None:
    one = said.pop(name, None)
    if one is None:
        return
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in (one.value, epochs))
    share = 1 / (one.value * epochs) if numbers else 0
    if 0 < share < 1:
        found.put(f"train.{what}_steps", round(share, 6), one, "a share of the run")
        found.put(f"train.{what}_strategy", "steps", one)
    else:
        found.drop(one, "at the end of the only epoch" if share == 1 else "sets nothing")


def _precision(found: Found, said: dict[str, Given]) -> None:
    bf16 = said.pop("bf16", None)
    if bf16 is not None and bf16.value == "auto":
        found.put("train.bf16", True, bf16, guess="`auto`: where the GPU has it; a GPU of today does")
    elif bf16 is not None and bf16.value == "full":
        found.put("train.bf16", True, bf16)
        found.put("train.bf16_full_eval", True, bf16)
    elif bf16 is not None:
        found.put("train.bf16", bf16.value, bf16)
    checkpointing = said.get("gradient_checkpointing")
    if checkpointing is not None and isinstance(checkpointing.value, str):
        said.pop("gradient_checkpointing")
        found.put(
            "train.gradient_checkpointing",
            True,
            checkpointing,
            guess=f"{checkpointing.value}: activations stay on the GPU here",
        )


def _reports(found: Found, said: dict[str, Given]) -> None:
    """axolotl reports to wandb where a project is named."""
    project, board, wandb = (said.get(name) for name in ("wandb_project", "use_tensorboard", "use_wandb"))
    if project is not None:
        found.put("train.report_to", ["wandb"], project)
    elif wandb is not None and not off(wandb.value):
        found.put("train.report_to", ["wandb"], wandb)
    elif board is not None and not off(board.value):
        found.put("train.report_to", ["tensorboard"], board)
