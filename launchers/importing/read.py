"""Read a launch script or another tool's configuration, and say the same as a job file."""

from __future__ import annotations

from pathlib import Path

from alignlaunch.train.config import Stage

from ..errors import UsageError
from ..job import yamlfile
from . import (
    accelerate,
    arguments,
    axolotl,
    axolotl_names,
    deepspeed,
    environment,
    launch,
    llamafactory,
    processes,
    program,
    sbatch,
    shell,
    which,
)
from .found import Found, Given
from .settle import settle
from .tools import TRL

MAX_BYTES = 1 << 20
_SOURCES = "a bash or sbatch script, a YAML file of LLaMA-Factory or axolotl, or a TRL configuration"
_STARTS = "torchrun, deepspeed, accelerate launch, srun, trl, llamafactory-cli, axolotl, or python with --options"


def read(path: Path, given: list[str]) -> Found:
    """What a source says; given: a script's arguments as its user would give them, in the working directory.

    Raises UsageError for what is no source, and where it trains in a way that alignlaunch does not have.
    """
    text = _text(path)
    if path.suffix not in (".yaml", ".yml", ".json"):
        found, stage = _script(path, text, given)
    elif given:
        raise UsageError(f"{path}: a configuration takes no arguments\n    remedy: leave out what follows `--`")
    else:
        found, stage = _configuration(path)
    program.complete(found, path)
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
        rule = f"{path}: not UTF-8 text (byte {error.start})"
        raise UsageError(f"{rule}\n    remedy: is this a launch script?") from error
    except OSError as error:
        rule = f"{path}: cannot be read: {error.strerror}"
        raise UsageError(f"{rule}\n    remedy: check the path and its rights") from error


def _configuration(path: Path) -> tuple[Found, Stage]:
    """A YAML file of another tool."""
    found, document = Found(), yamlfile.read(path)
    data = document.data
    keys = arguments.of_map(data, document, path.name)
    if "base_model" in data:
        tool, stage = axolotl_names.TOOL, axolotl.stage(data)
    elif llamafactory.NAMES & data.keys():
        tool, stage = llamafactory.TOOL, llamafactory.stage(data)
    elif "model_name_or_path" in data and data.keys() & {"dataset_name", "datasets", "use_peft"}:
        tool, stage = TRL, which.by_name(found, [path.stem], Given(path.name, None, 0))
    else:
        raise UsageError(f"{path}: none of the files that can be read\n    remedy: {_SOURCES}")
    said = next((one for one in keys if one.name in ("stage", "rl", "reward_model", "pretraining_dataset")), None)
    if "stage" not in found.job:
        found.put("stage", stage, said or Given(path.name, None, 0), "" if said else f"{tool.name}'s default")
    program.translate(found, keys, tool, stage, path, {})
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
        remedy = f"a script with {_STARTS}; give its arguments after `--`"
        raise UsageError(f"{path}: nothing in it starts training{ended}\n    remedy: {remedy}")
    tool, stage, keys = which.of_program(found, started, path)
    started.options = accelerate.options(found, started.options, path)
    started.options = deepspeed.of_options(found, started.options, path)
    processes.translate(found, started, environment.variables(script, started))
    program.translate(found, keys, tool, stage, path, {name: text.text for name, text in script.files.items()})
    environment.translate(found, script, started)
    return found, stage
