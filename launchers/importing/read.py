"""Read a launch script or another tool's configuration, and say the same as a job file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alignlaunch.train.config import Stage

from ..errors import JobFileError, UsageError
from ..job import yamlfile
from . import accelerate, arguments, axolotl, deepspeed, environment, launch, llamafactory, processes, sbatch, shell
from .arguments import Tool, off, plain
from .found import Found, Given, Left, beside
from .settle import settle
from .tools import FAMILY, FAMILY_NAMES, OWN, TRL

MAX_BYTES = 1 << 20
_STAGES: tuple[tuple[str, Stage], ...] = (
    (r"safe.*dpo", "safe_dpo"),
    (r"orpo", "orpo"),
    (r"dpo", "dpo"),
    (r"reward|(^|[^a-z])rm([^a-z]|$)", "rm"),
    (r"sft|supervised|finetun|fine_tun|instruct", "sft"),
    (r"pretrain|(^|[^a-z])(c?pt|clm)([^a-z]|$)", "pt"),
)


def read(path: Path, given: list[str]) -> Found:
    """What a source says; given: a script's arguments as its user would give them, in the working directory.

    Raises UsageError for what is no source, and where it trains in a way that alignlaunch does not have.
    """
    text = _text(path)
    if path.suffix in (".yaml", ".yml"):
        if given:
            raise UsageError(f"{path}: only a script takes arguments after `--`")
        found, stage = _configuration(path)
    else:
        found, stage = _script(path, text, given)
    _complete(found, path)
    settle(found, stage, path.name)
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{path}: more than {MAX_BYTES} bytes\n    remedy: is this a launch script?")
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not UTF-8 text (byte {error.start})\n    remedy: is this a launch script?"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}\n    remedy: check the path and its rights"
        ) from error


def _configuration(path: Path) -> tuple[Found, Stage]:
    """A YAML file of another tool."""
    document = yamlfile.read(path)
    data = document.data
    found = Found()
    keys = arguments.of_map(data, document, "")
    # Values of a file have their types: `file` tells them from the text of a command line, and is not shown.
    keys = [one._replace(file=path.name) for one in keys]
    if "base_model" in data:
        tool, stage = axolotl.TOOL, axolotl.stage(data)
    elif data.keys() & {"finetuning_type", "cutoff_len", "dataset_dir"}:
        tool, stage = llamafactory.TOOL, llamafactory.stage(data)
    elif "model_name_or_path" in data and data.keys() & {"dataset_name", "datasets", "use_peft"}:
        tool, stage = TRL, _stage(found, [path.stem], Given(path.name, None, 0))
    else:
        known = "a bash or sbatch script, a YAML file of LLaMA-Factory or axolotl, or a TRL configuration"
        raise UsageError(f"{path}: none of the files that can be read\n    remedy: {known}")
    if "stage" not in found.job:
        said = next((one for one in keys if one.name in ("stage", "rl", "reward_model", "pretraining_dataset")), None)
        found.put("stage", stage, said or Given(path.name, None, 0), "" if said else f"{tool.name}'s default")
    _program(found, keys, tool, stage, path, {})
    found.default("nnodes", 1, tool.name)
    found.fill("nproc_per_node", 1, "the file does not say it; one for each GPU")
    return found, stage


def _script(path: Path, text: str, given: list[str]) -> tuple[Found, Stage]:
    found = Found()
    directives = sbatch.directives(text)
    script = shell.read(text, given, sbatch.known(directives), name=str(path))
    sbatch.translate(found, directives)
    started = launch.find(script, found)
    if started is None:
        ended = f"; reading ended at line {script.ended}, `exit`" if script.ended else ""
        what = "torchrun, deepspeed, accelerate launch, srun, trl, llamafactory-cli, or python with --options"
        raise UsageError(
            f"{path}: nothing in it starts training{ended}\n    remedy: a script with {what}; give its arguments after `--`"
        )
    words = started.arguments
    tool, stage, keys = _of_program(found, started, words, path)
    started.options = accelerate.options(found, started.options, path)
    started.options = deepspeed.of_options(found, started.options, path)
    processes.translate(found, started, environment.variables(script, started))
    _program(found, keys, tool, stage, path, {name: text.text for name, text in script.files.items()})
    environment.translate(found, script, started)
    found.notes += script.notes
    return found, stage


def _of_program(found: Found, started: launch.Launch, words: list[Any], path: Path) -> tuple[Tool, Stage, list[Given]]:
    """(tool, stage, its options) of the program that is started."""
    options, others = arguments.of_words(words)
    program = Given(started.program.name, None, started.program.line)
    name = started.program.name.rpartition("/")[2]
    said = {plain(one) for one in options}
    if name in ("llamafactory-cli", "axolotl", "trl"):
        others = others[1:]  # its command
    if name in ("llamafactory-cli", "axolotl") or re.search(
        r"llamafactory|llama_factory|axolotl", started.program.name
    ):
        tool = axolotl.TOOL if "axolotl" in started.program.name else llamafactory.TOOL
        options = [*_of_file(found, others, path), *options]
        data = {plain(one): one.value for one in options}
        stage = axolotl.stage(data) if tool is axolotl.TOOL else llamafactory.stage(data)
        found.put("stage", stage, next((one for one in options if plain(one) in ("stage", "rl")), program))
        return tool, stage, options
    files = [one for one in options if plain(one) == "config"]
    options = [*_of_file(found, files, path), *(one for one in options if plain(one) != "config")]
    if name == "trl" or re.search(r"(^|/)trl[/.]|examples/scripts/|open_r1|alignment", started.program.name):
        if name == "trl":
            moved = [
                one
                for one in options
                if plain(one) in ("num_processes", "num_machines", "accelerate_config", "main_process_port")
            ]
            options = [one for one in options if one not in moved]
            started.launcher, started.options = "accelerate", [*started.options, *moved]
            program = program._replace(name=f"trl {words[0].text}" if words else "trl")
        tool = TRL
    else:
        tool = FAMILY if said & FAMILY_NAMES else OWN
    for one in others:
        found.refuse(one, "an argument without a name")
    named = next((one for one in options if plain(one) == "stage"), None)
    if named is not None:
        options.remove(named)
        return tool, _stage(found, [str(named.value)], named), options
    return tool, _stage(found, [program.name, path.stem], program), options


def _of_file(found: Found, files: list[Given], path: Path) -> list[Given]:
    """The keys of the configuration files that a command names, if they are here."""
    keys: list[Given] = []
    for one in files:
        name = str(one.value if isinstance(one.value, str) else one.name)
        try:
            document = yamlfile.read(beside(path, name))
        except JobFileError as error:
            why = error.problems[0].rule
            found.refuse(one, f"its configuration was not read ({why}): import again where it is, or write its values")
            continue
        found.drop(one, "read")
        keys += arguments.of_map(document.data, document, name)
    return keys


def _stage(found: Found, names: list[str], given: Given) -> Stage:
    for name in names:
        for pattern, stage in _STAGES:
            if re.search(pattern, name.rpartition("/")[2].lower()):
                found.put("stage", stage, given)
                return stage
    found.put("stage", "sft", given, guess="nothing in its name says it")
    return "sft"


def _program(found: Found, keys: list[Given], tool: Tool, stage: Stage, path: Path, written: dict[str, str]) -> None:
    """Translate the arguments of the training program, and add what it does where they are silent."""
    trained_by_lora = _has_lora(keys, tool)
    for one in [one for one in keys if plain(one) in deepspeed.NAMES]:
        deepspeed.file(found, one, path, written)
    keys = [one for one in keys if plain(one) not in deepspeed.NAMES]
    if tool is llamafactory.TOOL:
        keys = llamafactory.prepare(found, keys, path)
    elif tool is axolotl.TOOL:
        keys = axolotl.prepare(found, keys)
    elif tool is TRL:
        keys = _splits(found, keys)
    arguments.translate(found, keys, tool, stage)
    if tool is llamafactory.TOOL:
        llamafactory.finish(found, stage)
    if not trained_by_lora and "lora" not in found.job:
        found.default("lora", None, tool.name) if tool.known else found.fill(
            "lora", None, "the source says nothing of LoRA"
        )
    _without_lora(found)
    _evaluation(found, keys, tool)
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
        found.put("data.train", [f"{name.value}{split}"], name)
        if evaluates:
            found.put("data.validation", [f"{name.value}:{test.value if test is not None else 'test'}"], test or name)
    for one in (train, test):
        if one is not None:
            found.drop(one, "part of the source's name")
    return [one for one in keys if one not in (name, train, test)]


def _evaluation(found: Found, keys: list[Given], tool: Tool) -> None:
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
    for key, value in tool.defaults(stage).items():
        if key.startswith("lora.") and not lora:
            continue
        if key in ("train.eval_strategy", "data.max_eval_samples") and not evaluates:
            continue
        if key == "train.num_train_epochs" and steps is not None and isinstance(steps.value, int) and steps.value > 0:
            continue
        if key == "train.bf16" and "train.fp16" in found.job:
            value = False  # noqa: PLW2901
        if tool.known:
            found.default(key, value, tool.name)
        else:
            found.fill(key, value, "not in the source: transformers' default")
    if lora and tool is TRL:
        why = "TRL leaves it to PEFT, which takes these of most models"
        found.fill("lora.target_modules", ["q_proj", "v_proj"], why)
    if "zero" not in found.job:
        found.put("zero", 0, Given("", None, 0), "no DeepSpeed in the source: plain DDP")
    if "launcher" not in found.job:
        found.default("launcher", "torchrun", tool.name)


def _complete(found: Found, path: Path) -> None:
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
