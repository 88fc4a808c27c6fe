"""The command that starts training: what its launcher is told, and the program with its arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from .found import Found, Given
from .shell import Command, Script
from .words import Word

#: Options without a value; all others of these launchers have one.
_FLAGS = {
    "torchrun": "standalone no_python module m run_path virtual_local_rank",
    "deepspeed": "no_python module m no_local_rank no_ssh no_ssh_check force_multi save_pid bind_cores_to_cpu "
    "elastic_training",
    "accelerate": "quiet q cpu multi_gpu tpu use_deepspeed use_fsdp use_parallelism_config use_megatron_lm "
    "same_network debug module m no_python use_xpu enable_cpu_affinity dynamo_use_fullgraph dynamo_use_dynamic "
    "tpu_cluster no_tpu_cluster tpu_use_sudo",
    "srun": "exclusive overlap label l unbuffered u kill-on-bad-exit K verbose v quiet Q no-kill k wait-all-nodes "
    "container-writable container-remap-root no-container-mount-home container-mount-home contiguous pty exact",
    "apptainer": "nv rocm cleanenv e contain c containall C no-home writable-tmpfs fakeroot f",
}
#: Programs that start their last words, and how many words of their own follow them.
_WRAPPERS = {
    "nohup": 0,
    "time": 0,
    "exec": 0,
    "command": 0,
    "setsid": 0,
    "sudo": 0,
    "env": 0,
    "timeout": 1,
    "nice": 0,
    "stdbuf": 0,
}
_LAUNCHERS = {
    **{"torchrun": "torchrun", "torch.distributed.run": "torchrun", "torch.distributed.launch": "torchrun"},
    **{"deepspeed": "deepspeed", "deepspeed.launcher.runner": "deepspeed", "accelerate.commands.launch": "accelerate"},
}
_PROGRAMS = ("trl", "llamafactory-cli", "axolotl")
_PYTHON = re.compile(r"(.*/)?python[0-9.]*\Z")


class Program(NamedTuple):
    """name: a script, a module, or one of _PROGRAMS."""

    name: str
    line: int


_NO_PROGRAM = Program("", 0)


@dataclass
class Launch:
    """How training is started."""

    launcher: str = "python"  # torchrun, deepspeed, accelerate or python
    program: Program = _NO_PROGRAM
    options: list[Given] = field(default_factory=list)  # of the launcher
    srun: list[Given] | None = None
    container: list[Given] = field(default_factory=list)
    arguments: list[Word] = field(default_factory=list)  # of the program
    env: dict[str, Given] = field(default_factory=dict)  # variables before the command
    wrappers: list[Given] = field(default_factory=list)  # `nohup` and the like
    scripts: list[Script] = field(default_factory=list)  # of `bash -c` around it


def find(script: Script, found: Found) -> Launch | None:
    """The first command that starts training; further ones are refused. None if there is none.

    A plain `python program.py --option` is taken for it only where no launcher is.
    """
    launched = _starting(script)
    for launch in launched[1:]:
        told = "a second training command: import it from a script of its own, and write a pipeline of the two"
        found.refuse(Given(launch.program.name, None, launch.program.line), told)
    return launched[0] if launched else None


def _starting(script: Script) -> list[Launch]:
    """The commands that start training; they are taken out of `script.commands`."""
    read = [(command, _read(command)) for command in script.commands]
    starting = [(command, launch) for command, launch in read if launch is not None and _trains(launch)]
    launched = [(command, launch) for command, launch in starting if _by_launcher(launch)] or starting
    script.commands = [command for command in script.commands if not any(command is one for one, _ in launched)]
    return [launch for _, launch in launched]


def _by_launcher(launch: Launch) -> bool:
    return launch.launcher != "python" or launch.program.name in _PROGRAMS or launch.srun is not None


def _trains(launch: Launch) -> bool:
    """Whether it is more than a helper's call, such as `python -c "..."` or `trl env`."""
    name, first = launch.program.name, launch.arguments[0].text if launch.arguments else ""
    if name == "trl":
        return bool(first) and first not in ("env", "vllm-serve", "skills")
    if name in _PROGRAMS:
        return first == "train"
    return bool(name) and (_by_launcher(launch) or any(word.text.startswith("--") for word in launch.arguments))


def _read(command: Command) -> Launch | None:
    launch, words = Launch(), list(command.words)
    launch.env = {name: Given(name, one.text, command.line, one.unknown) for name, one in command.env.items()}
    while words:
        name = words[0].text.rpartition("/")[2]
        if name in _WRAPPERS:
            words = _unwrapped(launch, words)
        elif name == "srun":
            given, words = _options(words[1:], "srun")
            launch.srun = [*(launch.srun or []), *given]
        elif name in ("apptainer", "singularity") and len(words) > 1 and words[1].text in ("exec", "run"):
            launch.container, words = _options(words[2:], "apptainer")
            if words:
                launch.container.append(Given("image", words[0].text, words[0].line, words[0].unknown))
            words = words[1:]
        elif name in ("bash", "sh") and any(word.text in ("-c", "-lc") for word in words[1:3]):
            return _inner(launch, words)
        else:
            return _started(launch, name, words)
    return None


def _unwrapped(launch: Launch, words: list[Word]) -> list[Word]:
    """The command without `nohup`, `env A=1`, `timeout 1h` in front."""
    count = 1 + _WRAPPERS[words[0].text.rpartition("/")[2]]
    while count < len(words) and re.match(r"-|[A-Za-z_]\w*=", words[count].text):
        name, equals, value = words[count].text.partition("=")
        if equals and not name.startswith("-"):
            launch.env[name] = Given(name, value, words[count].line, words[count].unknown)
        count += 1
    launch.wrappers.append(Given(" ".join(word.text for word in words[:count]), None, words[0].line))
    return words[count:]


def _inner(launch: Launch, words: list[Word]) -> Launch | None:
    """`bash -c "..."`: the first command in it that starts training, and what is set up before it."""
    from . import shell

    text = next((word for i, word in enumerate(words) if i and words[i - 1].text in ("-c", "-lc")), None)
    if text is None:
        return None
    script = shell.read(text.text, [], first_line=text.line)
    starting = _starting(script)
    if not starting:
        return None
    inner = starting[0]
    inner.srun = launch.srun if inner.srun is None else inner.srun
    inner.container = inner.container or launch.container
    inner.env, inner.wrappers = launch.env | inner.env, [*launch.wrappers, *inner.wrappers]
    inner.scripts.append(script)
    return inner


def _started(launch: Launch, name: str, words: list[Word]) -> Launch | None:
    rest = words[1:]
    if _PYTHON.match(words[0].text) or words[0].text in ("$PYTHON", "${PYTHON}"):
        while rest and rest[0].text in ("-u", "-O", "-W", "-B", "-X"):
            rest = rest[2 if rest[0].text in ("-W", "-X") else 1 :]
        if len(rest) > 1 and rest[0].text == "-m":
            name, rest = rest[1].text, rest[2:]
            if name not in _LAUNCHERS:
                launch.program, launch.arguments = Program(name, words[0].line), rest
                return launch
        elif rest and not rest[0].text.startswith("-"):
            launch.program, launch.arguments = Program(rest[0].text, rest[0].line), rest[1:]
            return launch
        else:
            return None
    if name in _PROGRAMS:
        launch.program, launch.arguments = Program(name, words[0].line), rest
        return launch
    if name == "accelerate" and rest and rest[0].text == "launch":
        launch.launcher, rest = "accelerate", rest[1:]
    elif name in _LAUNCHERS:
        launch.launcher = _LAUNCHERS[name]
    else:
        return None
    launch.options, rest = _options(rest, launch.launcher)
    if rest:
        launch.program, launch.arguments = Program(rest[0].text, rest[0].line), rest[1:]
    return launch


def _options(words: list[Word], launcher: str) -> tuple[list[Given], list[Word]]:
    """(the launcher's options, the words after them). A name has underscores for hyphens, but of srun."""
    flags, given = _FLAGS[launcher].split(), []
    while words and words[0].text.startswith("-") and words[0].text != "--":
        word, words = words[0], words[1:]
        name, equals, value = word.text.lstrip("-").partition("=")
        name = name if launcher == "srun" else name.replace("-", "_")
        shown = f"{word.text[: len(word.text) - len(word.text.lstrip('-'))]}{word.text.lstrip('-').partition('=')[0]}"
        if not equals and len(word.text) > 2 and word.text[1] != "-" and launcher == "srun":  # -N2
            given.append(Given(shown[:2], word.text[2:], word.line, word.unknown))
        elif equals or name in flags or not words:
            given.append(Given(shown, value if equals else True, word.line, word.unknown))
        else:
            given.append(Given(shown, words[0].text, word.line, words[0].unknown))
            words = words[1:]
    return given, words[1:] if words and words[0].text == "--" else words
