"""`#SBATCH` lines."""

from __future__ import annotations

import re
import shlex

from . import containers, counts
from .found import Found, Given

_LONG = {
    **{"J": "job-name", "N": "nodes", "n": "ntasks", "t": "time", "p": "partition", "A": "account", "q": "qos"},
    **{"c": "cpus-per-task", "o": "output", "e": "error", "D": "chdir", "C": "constraint", "x": "exclude"},
    **{"w": "nodelist", "G": "gpus", "d": "dependency", "a": "array", "M": "clusters", "L": "licenses", "i": "input"},
}
_DIRECT = {
    **{"time": "time", "partition": "slurm.partition", "account": "slurm.account", "qos": "slurm.qos"},
    **{"mem": "slurm.mem", "job-name": "name"},
}
_NUMBERS = {"nodes": "nnodes", "cpus-per-task": "slurm.cpus_per_task", "ntasks-per-node": "nproc_per_node"}
_KEPT = "logs are kept in the run's folder"
_DROPPED = {
    **dict.fromkeys(("output", "error", "open-mode"), _KEPT),
    "export": "a job's environment is `env` and `secrets`",
    **dict.fromkeys(("parsable", "quiet", "verbose", "wait"), "of the submission, not of the job"),
}
_REFUSED = {
    "chdir": "a job starts in the folder of its job file: put it there",
    "array": "one job file is one job",
    "dependency": "jobs that follow one another are a pipeline file",
    "ntasks": "nnodes and nproc_per_node say it",
    **dict.fromkeys(
        ("cpus-per-gpu", "mem-per-gpu", "mem-per-cpu"), "`slurm.cpus_per_task` and `slurm.mem` say it, for a node"
    ),
}


def directives(text: str) -> list[Given]:
    """Every option of the `#SBATCH` lines above the first command, named as sbatch's long option."""
    given = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("#") and line.strip():
            break
        if not line.startswith("#SBATCH"):
            continue
        try:
            parts = shlex.split(line.removeprefix("#SBATCH"), comments=True)
        except ValueError:
            parts = line.removeprefix("#SBATCH").split()
        while parts:
            part = parts.pop(0)
            name, equals, value = part.lstrip("-").partition("=")
            if part.startswith("-") and not part.startswith("--"):
                value, name, equals = name[1:] + equals + value, name[:1], ""
            if not equals and not value and parts and not parts[0].startswith("-"):
                value = parts.pop(0)
            given.append(Given(f"#SBATCH --{_LONG.get(name, name)}", value, number))
    return given


def known(given: list[Given]) -> dict[str, str]:
    """The variables that Slurm sets from these."""
    said = {one.name.removeprefix("#SBATCH --"): str(one.value) for one in given}
    found: dict[str, str] = {}
    nodes = said.get("nodes", "1").partition("-")[0]
    if nodes.isdigit():
        found |= dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), nodes)
    tasks = said.get("ntasks-per-node", "1")
    if nodes.isdigit() and tasks.isdigit() and len(nodes + tasks) < 12:
        found |= {"SLURM_NTASKS_PER_NODE": tasks, "SLURM_NTASKS": said.get("ntasks", str(int(nodes) * int(tasks)))}
    if "cpus-per-task" in said:
        found["SLURM_CPUS_PER_TASK"] = said["cpus-per-task"]
    gres = said.get("gres", "").partition(",")[0]
    gpus = counts.gpus_in(gres if gres.startswith("gpu") else said.get("gpus-per-node", ""))
    if gpus:
        found |= dict.fromkeys(("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"), str(gpus))
    if "job-name" in said:
        found["SLURM_JOB_NAME"] = said["job-name"]
    return found


def translate(found: Found, given: list[Given]) -> None:
    nodes = [number for one in given if one.name.endswith("--nodes") and (number := _first(str(one.value)))]
    for one in given:
        name, value = one.name.removeprefix("#SBATCH --"), str(one.value)
        if name in _DIRECT:
            found.put(_DIRECT[name], value, one)
        elif name == "ntasks-per-node" and value == "1":
            found.drop(one, "one task a node, which starts its processes")
        elif name in _NUMBERS and (number := _first(value)):
            found.put(_NUMBERS[name], number, one, guess=f"{value}: the least of them" if "-" in value else "")
        elif name in ("gpus-per-node", "gpus", "gpus-per-task") or (name == "gres" and value.startswith("gpu")):
            _gpus(found, one, name, nodes[0] if nodes else 1)
        elif name in ("requeue", "no-requeue"):
            found.put("slurm.requeue", name == "requeue", one)
        elif name == "signal" and (seconds := re.search(r"@([0-9]{1,5})\Z", value)):
            found.put("slurm.signal_seconds", int(seconds[1]), one)
        elif name.startswith("container-"):
            containers.translate(found, one)
        elif name in _DROPPED:
            found.drop(one, _DROPPED[name])
        elif name in _REFUSED:
            found.refuse(one, _REFUSED[name])
        else:
            found.add("slurm.extra", f"--{name}={value}" if value else f"--{name}", one)


def _gpus(found: Found, given: Given, name: str, nodes: int) -> None:
    gpus = counts.gpus_in(str(given.value))
    if gpus is None:
        found.refuse(given, "a number of GPUs is expected")
        return
    each = gpus // nodes if name == "gpus" and gpus % nodes == 0 else gpus
    found.put("nproc_per_node", each, given, "a process for each GPU")
    kind = re.fullmatch(r"([A-Za-z][\w.-]*)(:[0-9]+)?", str(given.value).removeprefix("gpu:"))
    if kind and kind[1] != "gpu":
        found.profile("gpu_type", kind[1], given)


def _first(value: str) -> int | None:
    """Of a number of nodes `2-4` the least."""
    return counts.positive(value.partition("-")[0])
