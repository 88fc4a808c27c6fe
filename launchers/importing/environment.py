"""What a script sets up before it starts training: variables, modules, a python, a container."""

from __future__ import annotations

import re

from ..job import rules
from . import containers
from .found import Found, Given
from .launch import Launch
from .shell import Command, Script

#: Variables that libraries read, though the script reads them too.
_OF_LIBRARIES = re.compile(r"(HF|NCCL|TORCH|PYTORCH|CUDA|WANDB|TOKENIZERS|OMP|TRANSFORMERS|GLOO|UCX|FI|DS|TRITON|MKL)_")
_OF_THE_CLUSTER = re.compile(r"(NCCL_(IB|NET|CROSS|TOPO|P2P|SHM)\w*|UCX_\w+|FI_\w+|GLOO_\w+)\Z")
_PATHS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_HOME", "CONDA_PREFIX")
_LAUNCHER = re.compile(
    r"(RANK|LOCAL_RANK|WORLD_SIZE|MASTER_ADDR|MASTER_PORT|NODE_RANK|NNODES|NPROC_PER_NODE|FORCE_TORCHRUN)\Z"
)
_QUIET = frozenset(
    "echo printf set true : test [ date hostname nvidia-smi sleep wait trap cat ls exit shift unset sync which "
    "type".split()
)


def variables(script: Script, launch: Launch) -> dict[str, Given]:
    """What the training command has in its environment, as far as the script sets it."""
    exports = {name: one for each in (script, *launch.scripts) for name, one in each.exports.items()}
    found = {name: Given(name, one.value.text, one.line, one.value.unknown) for name, one in exports.items()}
    return found | launch.env


def translate(found: Found, script: Script, launch: Launch) -> None:
    """Put env and secrets, and into the profile what differs between clusters."""
    for name, given in variables(script, launch).items():
        _variable(found, name, given, used=name in script.read and name not in launch.env)
    for given in launch.container:
        containers.translate(found, given)
    for given in launch.wrappers:
        limits = given.name.startswith("timeout")
        (found.refuse if limits else found.drop)(
            given, "`time` limits a run" if limits else "it only starts what follows"
        )
    for each in (script, *launch.scripts):
        found.notes += each.notes
        for command in each.commands:
            _command(found, command)


def _variable(found: Found, name: str, given: Given, *, used: bool) -> None:
    value = str(given.value)
    if rules.looks_secret(name) or rules.is_secret(value):
        found.add("secrets", name, given._replace(value=None))
    elif name == "CUDA_VISIBLE_DEVICES":
        found.drop(given, "GPUs are not chosen by number here; `nproc_per_node` is their number")
    elif _LAUNCHER.match(name):
        found.drop(given, "alignlaunch sets it, or its own words for it, on each node")
    elif name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") and re.fullmatch(r"[\w.-]+", value):
        found.profile("network_interface", value, given)
    elif used and not _OF_LIBRARIES.match(name) and name not in _PATHS:
        found.drop(given, "its value stands in the command")
    elif given.unknown or name in _PATHS:
        found.refuse(given, "a value that a shell must fill in; write it into `env` of the profile")
    elif _OF_THE_CLUSTER.match(name):
        found.profile(f"env.{name}", value, given)
    else:
        found.put(f"env.{name}", value, given)


def _command(found: Found, command: Command) -> None:
    name, *rest = [word.text for word in command.words]
    shown = ["..." if rules.is_secret(word) else word for word in (name, *rest)]
    given = Given(" ".join(shown)[:60], None, command.line)
    match [name.rpartition("/")[2], *rest]:
        case ["module", "load" | "add", *modules] | ["ml", *modules]:
            for module in modules:
                found.add("modules", module, given, profile=True)
        case ["module", "purge"]:
            found.drop(given, "only the profile's modules are loaded")
        case ["source" | ".", path] if path.endswith("/bin/activate"):
            found.profile("python", f"{path.removesuffix('activate')}python", given)
        case ["conda" | "mamba" | "micromamba" | "source", "activate", env]:
            if "/" in env:
                found.profile("python", f"{env.rstrip('/')}/bin/python", given)
            else:
                found.refuse(
                    given, f"a profile names its python: `python:` is what `conda run -n {env} which python` prints"
                )
        case ["mkdir", *_]:
            found.drop(given, "folders are made when they are needed")
        case ["tee", *_]:
            found.drop(given, "logs are kept in the run's folder")
        case [quiet, *_] if quiet in _QUIET:
            found.drop(given, "it only tells or checks something")
        case ["cd", *_]:
            found.refuse(given, "paths of a job file are relative to its own folder: put it there, or write them out")
        case _:
            found.refuse(given, "a command beside the training: run it by yourself")
