"""A training program: its arguments, what it does where they are silent, and what a job file must have besides."""

from __future__ import annotations

import re
from pathlib import Path

from alignlaunch.train.config import Stage

from . import arguments, axolotl, axolotl_names, deepspeed, llamafactory
from .arguments import Tool, off, plain
from .found import Found, Given, Left
from .tools import FAMILY, OWN, TRL

#: How options of FSDP begin.
_FSDP = ("fsdp", "use_fsdp", "distributed_type")


def translate(found: Found, keys: list[Given], tool: Tool, stage: Stage, path: Path, written: dict[str, str]) -> None:
    """Translate the arguments of the training program, and add what it does where they are silent.

    path: the source. written: the texts of files that a script writes, by their names.
    """
    for one in [one for one in keys if one.value is None]:
        found.drop(one, "not set")
    keys = arguments.last(found, [one for one in keys if one.value is not None])
    trained_by_lora = _has_lora(keys, tool)
    for one in [one for one in keys if plain(one) in deepspeed.NAMES]:
        deepspeed.file(found, one, path, written)
    keys = [one for one in keys if plain(one) not in deepspeed.NAMES]
    if tool is llamafactory.TOOL:
        keys = llamafactory.prepare(found, keys, path)
    elif tool is axolotl_names.TOOL:
        keys = axolotl.prepare(found, keys)
    elif tool is TRL:
        keys = _splits(found, keys)
    arguments.translate(found, keys, tool, stage)
    if tool is llamafactory.TOOL:
        llamafactory.finish(found, stage)
    if not trained_by_lora and "lora" not in found.job:
        if tool.known:
            found.default("lora", None, tool.name)
        else:
            found.fill("lora", None, "the source says nothing of LoRA")
    _without_lora(found)
    _evaluation(found, tool)
    _silent(found, tool, stage)


def _has_lora(keys: list[Given], tool: Tool) -> bool:
    said = {plain(one): one.value for one in keys}
    if tool is TRL:
        return not off(said.get("use_peft", False))
    if tool in (OWN, FAMILY):
        return any(
            not off(value)
            for name, value in said.items()
            if name in ("use_peft", "use_lora", "target_modules", "qlora") or name.startswith("lora")
        )
    return True


def _without_lora(found: Found) -> None:
    lora = found.job.get("lora")
    if lora is None or lora.value not in (None, False):
        return
    lora.value = None
    for key in [key for key in found.job if key.startswith("lora.")]:
        line = found.job.pop(key)
        found.dropped += [Left(one, "no LoRA adapter is trained") for one in line.given]


def _splits(found: Found, keys: list[Given]) -> list[Given]:
    """TRL's data set: its splits are part of a source's name here."""
    said = {plain(one): one for one in keys}
    name, train, test = (said.get(key) for key in ("dataset_name", "dataset_train_split", "dataset_test_split"))
    evaluates = "eval_strategy" in said and said["eval_strategy"].value != "no"
    if name is not None:
        split = f":{train.value}" if train is not None and train.value != "train" else ""
        arguments.put(found, "data.train", [f"{name.value}{split}"], name)
        if evaluates:
            held = f"{name.value}:{test.value if test is not None else 'test'}"
            arguments.put(found, "data.validation", [held], test or name)
    for one in (train, test):
        if one is not None:
            found.drop(one, "part of the source's name")
    return [one for one in keys if one not in (name, train, test)]


def _evaluation(found: Found, tool: Tool) -> None:
    """Evaluation needs data: a program that names none most often holds some out."""
    if "data.validation" in found.job or "data.validation_share" in found.job:
        return
    asked = [
        key for key in ("train.eval_strategy", "train.eval_steps") if key in found.job and found.job[key].value != "no"
    ]
    if asked and not tool.known:
        found.fill("data.validation_share", 0.05, "the source evaluates, and names no data for it")
        return
    for key in asked:
        found.take_back(key, "there is nothing to evaluate on")


def _silent(found: Found, tool: Tool, stage: Stage) -> None:
    """What the other tool does where the source is silent."""
    evaluates = "data.validation" in found.job or "data.validation_share" in found.job
    lora = "lora" not in found.job
    steps = found.job.get("train.max_steps")
    fp16 = found.job.get("train.fp16")
    if fp16 is not None and fp16.value is True and "train.bf16" not in found.job:
        found.put("train.bf16", False, fp16.given[0], "it is one or the other")
    for key, value in tool.defaults(stage).items():
        if key.startswith("lora.") and not lora:
            continue
        if key in ("train.eval_strategy", "data.max_eval_samples") and not evaluates:
            continue
        if key == "train.num_train_epochs" and steps is not None and isinstance(steps.value, int) and steps.value > 0:
            continue
        if tool.known:
            found.default(key, value, tool.name)
        else:
            found.fill(key, value, "not in the source: transformers' default")
    if lora and tool is TRL:
        why = "TRL leaves it to PEFT, which takes these of most models"
        found.fill("lora.target_modules", ["q_proj", "v_proj"], why)
    if any(one.given.name.lstrip("-").startswith(_FSDP) for one in found.cannot):
        found.fill("zero", 3, "FSDP's FULL_SHARD shards as ZeRO-3 does")
    if "zero" not in found.job:
        found.put("zero", 0, Given("", None, 0), "no DeepSpeed in the source: plain DDP")
    if "launcher" not in found.job:
        found.default("launcher", "torchrun", tool.name)


def complete(found: Found, path: Path) -> None:
    """The keys that a job file must have."""
    name = found.job.get("name")
    if name is None:
        found.fill("name", _slug(path.stem), "from the file's name")
    elif _slug(str(name.value)) != name.value:
        given = name.given[0]
        del found.job["name"]
        found.put("name", _slug(str(name.value)), given, f"{given.value} in lower case, letters, digits and `-`")
    found.fill("model", "MODEL", "the source names none: write a folder or a hub id")
    train = found.job.get("data.train")
    if train is None:
        found.fill("data.train", ["DATA"], "the source names none: write a file, a folder or a hub id")
    for key in ("data.train", "data.validation"):
        line = found.job.get(key)
        if line is not None and not isinstance(line.value, list):
            line.value = [line.value]


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"job-{slug}".rstrip("-")
    return slug[:50].rstrip("-")
