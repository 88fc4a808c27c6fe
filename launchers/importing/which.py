"""Which tool a command starts, and which kind of training."""

from __future__ import annotations

import re
from pathlib import Path

from alignlaunch.train.config import Stage

from ..errors import JobFileError, UsageError
from ..job import yamlfile
from . import arguments, axolotl, axolotl_names, llamafactory
from .arguments import Tool, plain
from .found import Found, Given, beside
from .launch import Launch
from .tools import FAMILY, FAMILY_NAMES, OWN, TRL

_STAGES: tuple[tuple[str, Stage], ...] = (
    (r"safe.*dpo", "safe_dpo"),
    (r"orpo", "orpo"),
    (r"dpo", "dpo"),
    (r"reward|(^|[^a-z])rm([^a-z]|$)", "rm"),
    (r"sft|supervised|finetun|fine_tun|instruct", "sft"),
    (r"pretrain|(^|[^a-z])(c?pt|clm)([^a-z]|$)", "pt"),
)
_NOT_HERE = re.compile(r"online_dpo|(^|[^a-z])(grpo|gspo|kto|ppo|rloo|gkd|cpo|bco|prm|xpo|nash_md|simpo)([^a-z]|$)")
_OF_ACCELERATE = ("num_processes", "num_machines", "accelerate_config", "main_process_ip", "main_process_port")


def of_program(found: Found, started: Launch, path: Path) -> tuple[Tool, Stage, list[Given]]:
    """(tool, stage, its options) of the program that a script starts. path: the script."""
    options, others = arguments.of_words(started.arguments)
    program = Given(started.program.name, None, started.program.line)
    name = started.program.name.rpartition("/")[2]
    if name in ("llamafactory-cli", "axolotl", "trl") and others:
        program, others = program._replace(name=f"{name} {others[0].name}"), others[1:]
    files = [one for one in others if one.name.endswith((".yaml", ".yml", ".json"))]
    for one in [one for one in others if one not in files]:
        found.refuse(one, "an argument without a name")
    files += [one for one in options if plain(one) == "config"]
    options = [*_of_files(found, files, path), *(one for one in options if one not in files)]
    data = {plain(one): one.value for one in options}
    if re.search(r"llama-?_?factory|axolotl", started.program.name) or llamafactory.NAMES & data.keys():
        tool = axolotl_names.TOOL if "axolotl" in started.program.name else llamafactory.TOOL
        stage = axolotl.stage(data) if tool is axolotl_names.TOOL else llamafactory.stage(data)
        found.put("stage", stage, next((one for one in options if plain(one) in ("stage", "rl")), program))
        return tool, stage, options
    tool = FAMILY if FAMILY_NAMES & data.keys() else OWN
    if name == "trl" or re.search(r"(^|/)trl[/.]|examples/scripts/|open_r1|alignment", started.program.name):
        tool = TRL
    if name == "trl":
        of_launcher = [one for one in options if plain(one) in _OF_ACCELERATE]
        options = [one for one in options if one not in of_launcher]
        started.launcher, started.options = "accelerate", [*started.options, *of_launcher]
    said = next((one for one in options if plain(one) == "stage"), None)
    if said is not None:
        options.remove(said)
        return tool, by_name(found, [str(said.value)], said), options
    return tool, by_name(found, [program.name, path.stem], program), options


def _of_files(found: Found, files: list[Given], path: Path) -> list[Given]:
    """The keys of the configuration files that a command names, if they are here."""
    keys: list[Given] = []
    for one in files:
        name = one.value if isinstance(one.value, str) else one.name
        try:
            document = yamlfile.read(beside(path, name))
        except (JobFileError, ValueError) as error:
            why = error.problems[0].rule if isinstance(error, JobFileError) else "no file's name"
            found.refuse(one, f"its configuration was not read ({why}): import again where it is, or write its values")
            continue
        found.drop(one, "read")
        keys += arguments.of_map(document.data, document, name)
    return keys


def by_name(found: Found, names: list[str], given: Given) -> Stage:
    """The stage that a name speaks of. Raises UsageError for a kind of training that alignlaunch does not have."""
    for name in (name.rpartition("/")[2].lower() for name in names):
        if match := _NOT_HERE.search(name):
            rule = f"{given.name}: alignlaunch does not train {match[0].strip('._-/ ')}"
            raise UsageError(f"{rule}\n    remedy: it trains pt, sft, rm, dpo, orpo and safe_dpo")
        for pattern, stage in _STAGES:
            if re.search(pattern, name):
                found.put("stage", stage, given)
                return stage
    found.put("stage", "sft", given, guess="nothing in its name says it")
    return "sft"
