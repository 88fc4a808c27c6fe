"""Old argument names that still work: those of the documents' scripts and of transformers 4.

An old name under `train:` is moved to the key that replaced it, with a note to the user; none is dropped silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import Problem
from .yamlfile import Document

Convert = Callable[[Any], Any]
_TRUE = (True, "true", "True")


class Move(NamedTuple):
    to: str | None  # the dotted key that replaced it; None: nothing needs to be set any more
    why: str
    convert: Convert = lambda value: value
    #: For `to=None`: a value that is no longer supported, and the remedy.
    unless: Any = None
    remedy: str = ""


def _paths(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _when_true(result: Any, otherwise: Any = None) -> Convert:
    return lambda value: result if value in _TRUE else otherwise


_CPU = "`device: cpu` in a cluster profile (--cluster NAME)"
#: {old name under `train:`: its replacement}
MOVES: dict[str, Move] = {
    # The documents' model, data and LoRA arguments have keys of their own in a job file.
    "model_name_or_path": Move("model", "the job's own key"),
    "tokenizer_name_or_path": Move("tokenizer", "the job's own key"),
    "attn_implementation": Move("attn_implementation", "the job's own key"),
    "trust_remote_code": Move("trust_remote_code", "the job's own key"),
    "train_file_dir": Move("data.train", "the job's own key", _paths),
    "validation_file_dir": Move("data.validation", "the job's own key", _paths),
    "max_train_samples": Move("data.max_train_samples", "the job's own key"),
    "max_eval_samples": Move("data.max_eval_samples", "the job's own key"),
    "cache_dir": Move("data.cache_dir", "the job's own key"),
    "output_dir": Move("output_dir", "the job's own key"),
    "lora_rank": Move("lora.r", "the job's own key"),
    "lora_alpha": Move("lora.alpha", "the job's own key"),
    "lora_dropout": Move("lora.dropout", "the job's own key"),
    "target_modules": Move("lora.target_modules", "the job's own key"),
    "deepspeed": Move("zero", "the job's own key"),
    "preprocessing_num_workers": Move("train.dataset_num_proc", "TRL's name"),
    "model_max_length": Move("train.max_length", "TRL's name"),
    "block_size": Move("train.max_length", "TRL's name"),
    "flash_attn": Move("attn_implementation", "transformers' name", _when_true("flash_attention_2")),
    "load_in_8bit": Move("quantization", "the job's own key", _when_true("8bit")),
    "load_in_4bit": Move("quantization", "the job's own key", _when_true("4bit")),
    "qlora": Move("quantization", "the job's own key", _when_true("4bit")),
    "quantization_type": Move("quantization", "the job's own key"),
    "orpo_beta": Move("train.beta", "TRL's name"),
    "tool_format": Move(None, "the model's own chat template writes tools"),
    "remove_unused_columns": Move(None, "the data formats say which columns are read"),
    # Removed by transformers 5.
    "warmup_ratio": Move("train.warmup_steps", "transformers 5: below 1 it is a share of the steps"),
    "evaluation_strategy": Move("train.eval_strategy", "transformers 5"),
    "no_cuda": Move(None, "the device is found out on the node", unless=True, remedy=_CPU),
    "use_cpu": Move(None, "the device is found out on the node", unless=True, remedy=_CPU),
    "overwrite_output_dir": Move("resume", "the job's own key", _when_true("never", "auto")),
    "overwrite_cache": Move(None, "the cache is keyed by content"),
    "save_safetensors": Move(None, "safetensors is the only format now", unless=False, remedy="remove it"),
    "group_by_length": Move("train.train_sampling_strategy", "transformers 5", _when_true("group_by_length", "random")),
    "logging_dir": Move("env.TENSORBOARD_LOGGING_DIR", "transformers 5"),
    "do_train": Move(None, "a job trains", unless=False, remedy="`alignlaunch eval FOLDER` evaluates alone"),
    "do_eval": Move(
        None, "evaluation is on when `data.validation` is given", unless=False, remedy="remove `data.validation`"
    ),
    "use_peft": Move("lora", "null trains every weight", lambda value: None if value in _TRUE else False),
}

#: The documents' names for the type of the weights, and by each value what is set under `train:`.
DTYPE_NAMES = ("torch_dtype", "dtype")
_DTYPES: dict[Any, dict[str, bool]] = {
    "auto": {},
    "bfloat16": {"bf16": True},
    "float16": {"fp16": True, "bf16": False},
    "float32": {"bf16": False},
}


def apply(document: Document) -> tuple[list[str], list[Problem]]:
    """Move old names in `document.data["train"]` to the keys that replaced them. Returns (user notes, problems)."""
    notes: list[str] = []
    problems: list[Problem] = []
    train = document.data.get("train")
    if not isinstance(train, dict):
        return notes, problems
    _lengths(document, train, notes, problems)
    _dtype(document, train, notes, problems)
    for name in [name for name in train if name in MOVES]:
        move, value, place = MOVES[name], train.pop(name), document.key_place(("train", name))
        if move.to is None and move.unless is not None and _same(value, move.unless):
            problems.append(Problem(place, f"train.{name}", value, f"not to be had so: {move.why}", move.remedy))
            continue
        if move.to is None:
            notes.append(f"{place}: train.{name} is not needed: {move.why}")
            continue
        value = move.convert(value)
        if value is None:
            notes.append(f"{place}: train.{name} sets nothing here ({move.why})")
            continue
        notes.append(f"{place}: train.{name} is `{move.to}` today ({move.why})")
        path = tuple(move.to.split("."))
        if not put(document, path, value, document.values.get(("train", name), place), keep=True):
            problems.append(_conflict(place, name, move.to))
    return notes, problems


def _same(value: Any, flag: bool) -> bool:
    """Whether a value equals this flag: as a YAML bool, or as the text that the documents' shell scripts write."""
    return value is flag or (isinstance(value, str) and value.lower() == str(flag).lower())


def _conflict(place: str, name: str, to: str) -> Problem:
    return Problem(place, f"train.{name}", None, f"given as `{to}` as well", f"keep `{to}` alone")


def _lengths(document: Document, train: dict[str, Any], notes: list[str], problems: list[Problem]) -> None:
    """The documents limit source and target separately. Now one limit covers both; ORPO also limits the prompt."""
    given = {name: train.pop(name) for name in ("max_source_length", "max_target_length") if name in train}
    if not given:
        return
    place = document.key_place(("train", next(iter(given))))
    numbers = all(type(value) is int for value in given.values())
    moved = {"max_length": sum(given.values()) if numbers else next(iter(given.values()))}
    if document.data.get("stage") == "orpo" and "max_source_length" in given:
        moved["max_prompt_length"] = given["max_source_length"]
    for key, value in moved.items():
        if not put(document, ("train", key), value, place, keep=True):
            problems.append(_conflict(place, " + ".join(given), f"train.{key}"))
    notes.append(f"{place}: train.{' + '.join(given)} is `train.max_length` today: one limit for prompt and answer")


def _dtype(document: Document, train: dict[str, Any], notes: list[str], problems: list[Problem]) -> None:
    """Other tools give the precision as the weights' type. Here the weights stay in fp32 and training is mixed."""
    for name in [name for name in DTYPE_NAMES if name in train]:
        value, place = train.pop(name), document.key_place(("train", name))
        if not isinstance(value, str) or value not in _DTYPES:
            remedy = f"one of {', '.join(map(str, _DTYPES))}; or `train: {{bf16: true}}`"
            problems.append(Problem(place, f"train.{name}", value, "no precision to train in", remedy))
            continue
        for key, flag in _DTYPES[value].items():
            if not put(document, ("train", key), flag, place, keep=True):
                problems.append(_conflict(place, name, f"train.{key}"))
        wanted = ", ".join(f"{key}: {str(flag).lower()}" for key, flag in _DTYPES[value].items())
        notes.append(
            f"{place}: train.{name} is `train: {{{wanted}}}` today"
            if wanted
            else f"{place}: train.{name} sets nothing here"
        )


def put(document: Document, path: tuple[str, ...], value: Any, place: str, *, keep: bool = False) -> bool:
    """Set `path` in the document and record its place.

    keep: do not replace an existing value. Returns False if that value is different, else True.
    """
    node = document.data
    for i, key in enumerate(path[:-1], start=1):
        if not isinstance(node.get(key), dict):
            if keep and key in node:
                return False
            node[key] = {}
            document.values.setdefault(path[:i], place)
        node = node[key]
    if keep and path[-1] in node:
        return bool(node[path[-1]] == value)
    node[path[-1]] = value
    for places in (document.values, document.keys):  # forget the places of keys inside the replaced value
        for inner in [inner for inner in places if inner[: len(path)] == path]:
            del places[inner]
        places[path] = place
    return True
