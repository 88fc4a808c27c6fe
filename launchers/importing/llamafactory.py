"""A YAML file of LLaMA-Factory, or `llamafactory-cli train` (as of its commit ff6d4d12, August 2026)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alignlaunch.train.config import Stage

from ..errors import UsageError
from ..job.legacy import Move
from .arguments import Tool, off, plain
from .found import Found, Given, beside
from .tools import TRANSFORMERS, paths

#: Keys by which its files are known.
NAMES = frozenset({"finetuning_type", "cutoff_len", "lora_target", "dataset_dir", "pref_beta", "pref_loss"})
_ATTENTION = {"disabled": "eager", "sdpa": "sdpa", "fa2": "flash_attention_2", "fa3": "flash_attention_3"}
_LOSSES = ("sigmoid", "hinge", "ipo")


def defaults(stage: Stage) -> dict[str, Any]:
    """Seq2SeqTrainingArguments and LLaMA-Factory's own; beta is `pref_beta`."""
    found = TRANSFORMERS | {
        **{"lora.r": 8, "lora.dropout": 0.0, "lora.target_modules": "all"},
        "train.gradient_checkpointing": True,
        "train.max_length": 2048,
    }
    return found | ({"train.beta": 0.1} if stage in ("dpo", "orpo") else {})


def _flag(wanted: bool) -> Any:
    return lambda value: None if off(value) else wanted


TOOL = Tool(
    "LLaMA-Factory",
    moves={
        "stage": Move(None, "it is the job's `stage`"),
        "lora_target": Move("lora.target_modules", ""),
        "use_dora": Move("lora.dora", ""),
        "cutoff_len": Move("train.max_length", "one limit for prompt and answer"),
        "pref_beta": Move("train.beta", "TRL's name"),
        "dpo_label_smoothing": Move("train.label_smoothing", "TRL's name"),
        "packing": Move("train.packing", ""),
        "flash_attn": Move("attn_implementation", "transformers' name", lambda value: _ATTENTION.get(str(value))),
        "enable_liger_kernel": Move("train.use_liger_kernel", "transformers' name"),
        "disable_gradient_checkpointing": Move("train.gradient_checkpointing", "the opposite", off),
        "use_reentrant_gc": Move(
            "train.gradient_checkpointing_kwargs", "", lambda value: {"use_reentrant": not off(value)}
        ),
        "quantization_bit": Move("quantization", "", lambda value: {"4": "4bit", "8": "8bit"}.get(str(value), value)),
        "quantization_type": Move(None, "nf4 is what `quantization: 4bit` is", unless="fp4"),
        "double_quantization": Move(None, "`quantization: 4bit` always does", unless=False),
        "plot_loss": Move(None, "the metrics are in `output_dir`, and for tensorboard where `report_to` says so"),
        "val_size": Move("data.validation_share", "", lambda value: value if not off(value) else None),
        "media_dir": Move(None, "paths of images start at the data file's folder"),
        "preprocessing_batch_size": Move(None, "alignlaunch decides it"),
        "data_shared_file_system": Move(None, "one process of each cache tokenises"),
        "use_fast_tokenizer": Move(None, "it is fast where there is a fast one", unless=False),
        "low_cpu_mem_usage": Move(None, "alignlaunch decides it"),
        "freeze_vision_tower": Move(None, "a vision tower is never trained", unless=False),
        "freeze_multi_modal_projector": Move(None, "it is never trained", unless=False),
        "ignore_pad_token_for_loss": Move(None, "padding is never learnt", unless=False),
    },
    only={"mix_strategy": "concat", "model_revision": "main"},
    off=frozenset(
        "adapter_name_or_path adapter_folder additional_target loraplus_lr_ratio use_rslora pissa_init pissa_convert "
        "create_new_adapter use_galore use_apollo use_badam use_swanlab use_adam_mini use_muon use_mca "
        "use_megatron_bridge use_hyper_parallel use_llama_pro use_dft_loss use_asft_loss use_eaft_loss pure_bf16 "
        "freeze_language_model compute_accuracy disable_shuffling early_stopping_steps pref_ftx pref_bco_weight "
        "simpo_gamma ref_model ref_model_adapters reward_model train_on_prompt mask_history streaming neat_packing "
        "interleave_probs eval_on_each_dataset default_system tokenized_path do_predict predict_with_generate "
        "use_unsloth use_unsloth_gc shift_attn mixture_of_depths moe_aux_loss_coef rope_scaling resize_vocab "
        "add_tokens add_special_tokens new_special_tokens_config split_special_tokens upcast_layernorm "
        "upcast_lmhead_output train_from_scratch quantization_device_map preserve_thinking use_v1_kernels use_kt fp8 "
        "include_effective_tokens_per_second".split()
    ),
    defaults=defaults,
)
_BELONGS = (
    "galore_",
    "apollo_",
    "badam_",
    "swanlab_",
    "pissa_",
    "freeze_trainable_",
    "freeze_extra_",
    "oft_",
    "kto_",
    "ppo_",
    "ray_",
    "megatron_",
)


def stage(data: dict[str, Any]) -> Stage:
    """Raises UsageError for a kind of training that alignlaunch does not have."""
    named, loss = str(data.get("stage", "sft")), str(data.get("pref_loss", "sigmoid"))
    known: dict[str, Stage] = {"pt": "pt", "sft": "sft", "rm": "rm", "dpo": "orpo" if loss == "orpo" else "dpo"}
    if named in known:
        return known[named]
    raise UsageError(f"stage {named}: alignlaunch does not train it\n    remedy: one of pt, sft, rm, dpo, orpo")


def prepare(found: Found, given: list[Given], source: Path) -> list[Given]:
    """Put what takes several keys together; returns the others."""
    said = {plain(one): one for one in given}
    data = {name: one.value for name, one in said.items()}
    kind = said.pop("finetuning_type", None)
    if kind is not None and kind.value == "full":
        found.put("lora", None, kind)
    elif kind is not None and kind.value != "lora":
        found.refuse(kind, "alignlaunch trains a LoRA adapter, or all weights")
    elif kind is not None:
        found.drop(kind, "`lora` says it")
    loss = said.pop("pref_loss", None)
    if loss is not None and loss.value in _LOSSES and data.get("stage") == "dpo":
        found.put("train.loss_type", [loss.value], loss)
    elif loss is not None and loss.value == "orpo":
        found.drop(loss, "it is the job's `stage`")
    elif loss is not None:
        found.refuse(loss, "a loss that alignlaunch does not have")
    if (template := said.pop("template", None)) is not None:
        found.refuse(template, "the model's own chat template is used: compare with `alignlaunch data`")
    if (method := said.pop("quantization_method", None)) is not None:
        (found.drop if method.value in ("bnb", "bitsandbytes") else found.refuse)(method, "bitsandbytes quantises")
    _sources(found, said, source)
    for name in [name for name in said if name.startswith(_BELONGS) and name not in TOOL.off]:
        found.drop(said.pop(name), "part of a feature that a job file cannot turn on")
    return list(said.values())


def _sources(found: Found, said: dict[str, Given], source: Path) -> None:
    base = said.pop("dataset_dir", None)
    root = str(base.value) if base is not None else "data"
    if base is not None:
        found.drop(base, "part of the paths in `data`")
    count = 0
    for name, key in (("dataset", "data.train"), ("eval_dataset", "data.validation")):
        one = said.pop(name, None)
        if one is None:
            continue
        names = paths(one.value)
        count = count or len(names)
        entries, known = _registered(beside(source, f"{root}/dataset_info.json")), True
        sources = []
        for each in names:
            place, sure = _source(entries.get(str(each)), root, str(each))
            sources.append(place)
            known = known and sure
        why = (
            f"from {root}/dataset_info.json"
            if known
            else f"{root}/dataset_info.json is not here: write the files or hub ids"
        )
        found.put(key, sources, one, why, guess="" if known else why)
    _limit(found, said, count)


def _limit(found: Found, said: dict[str, Given], count: int) -> None:
    """`max_samples` is of each data set, and `val_size` is taken from what it leaves."""
    most, share = said.pop("max_samples", None), said["val_size"].value if "val_size" in said else 0
    if most is None or type(most.value) is not int:
        if most is not None:
            found.drop(most, "not set")
        return
    every = most.value * max(count, 1)
    held = round(every * share) if isinstance(share, float) and 0 < share < 1 else 0
    why = (
        ""
        if count < 2 and not held
        else f"{most.value} of each data set there, before `val_size`; of all together here"
    )
    found.put("data.max_train_samples", every - held, most, guess=why)
    if held or "data.validation" in found.job:
        found.put("data.max_eval_samples", held or most.value, most, guess=why)


def _registered(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _source(entry: Any, root: str, name: str) -> tuple[str, bool]:
    if isinstance(entry, dict) and isinstance(entry.get("hf_hub_url"), str):
        return entry["hf_hub_url"], True
    if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
        return f"{root}/{entry['file_name']}", True
    return f"{root}/{name}.json", False


def finish(found: Found, stage: Stage) -> None:
    """What LLaMA-Factory derives from other values."""
    rank = found.job.get("lora.r")
    if "lora" not in found.job and rank is not None and isinstance(rank.value, int):
        found.default("lora.alpha", 2 * rank.value, "LLaMA-Factory (twice the rank)")
    elif "lora" not in found.job:
        found.default("lora.alpha", 16, "LLaMA-Factory (twice the rank)")
    if stage in ("pt", "sft"):
        found.default("train.packing", stage == "pt", "LLaMA-Factory")
