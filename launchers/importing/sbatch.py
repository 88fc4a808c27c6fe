"""`#SBATCH` lines."""

from __future__ import annotations

import re
import shlex

from .found import Found, Given

_LONG = {
    **{"J": "job-name", "N": "nodes", "n": "ntasks", "t": "time", "p": "partition", "A": "account", "q": "qos"},
    **{"c": "cpus-per-task", "o": "output", "e": "error", "D": "chdir", "C": "constraint", "x": "exclude"},
    **{"w": "nodelist", "G": "gpus", "d": "dependency", "a": "array", "M": "clusters", "L": "licenses", "i": "input"},
}
_DIRECT = {
    **{"time": "time", "partition": "slurm.partition", "account": "slurm.account", "qos": "slurm.qos"},
    **{"mem": "slurm.mem", "nodes": "nnodes", "cpus-per-task": "slurm.cpus_per_task"},
}
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
    found = {}
    nodes = said.get("nodes", "1").partition("-")[0]
    if nodes.isdigit():
        found |= dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), nodes)
    tasks = said.get("ntasks-per-node", "1")
    if nodes.isdigit() and tasks.isdigit() and len(nodes + tasks) < 12:
        found |= {"SLURM_NTASKS_PER_NODE": tasks, "SLURM_NTASKS": said.get("ntasks", str(int(nodes) * int(tasks)))}
    if "cpus-per-task" in said:
        found["SLURM_CPUS_PER_TASK"] = said["cpus-per-task"]
    gpus = next((number for name in ("gres", "gpus-per-node") if (number := gpus_in(said.get(name, "")))), None)
    if gpus:
        found |= dict.fromkeys(("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"), str(gpus))
    if "job-name" in said:
        found["SLURM_JOB_NAME"] = said["job-name"]
    return found


def translate(found: Found, given: list[Given]) -> None:
    nodes = next((number for one in given if one.name.endswith("--nodes") and (number := _first(str(one.value)))), 1)
    for one in given:
        _one(found, one, one.name.removeprefix("#SBATCH --"), str(one.value), nodes)


def _one(found: Found, given: Given, name: str, value: str, nodes: int) -> None:
    if name in ("nodes", "cpus-per-task"):
        number = _first(value)
        if number is None:
            found.refuse(given, "a number is expected")
        else:
            found.put(_DIRECT[name], number, given)
    elif name in _DIRECT:
        found.put(_DIRECT[name], value, given)
    elif name == "job-name":
        found.put("name", value, given)
    elif name in ("gres", "gpus-per-node", "gpus", "gpus-per-task") and (gpus := gpus_in(value, name)):
        _gpus(found, given, name, gpus, nodes)
    elif name == "ntasks-per-node" and (tasks := _first(value)):
        if tasks > 1:
            found.put("nproc_per_node", tasks, given)
        else:
            found.drop(given, "one task a node, which starts its processes")
    elif name in ("requeue", "no-requeue"):
        found.put("slurm.requeue", name == "requeue", given)
    elif name == "signal" and (seconds := re.search(r"@(\d{1,5})\Z", value)):
        found.put("slurm.signal_seconds", int(seconds[1]), given)
    elif name in _DROPPED:
        found.drop(given, _DROPPED[name])
    elif name in _REFUSED:
        found.refuse(given, _REFUSED[name])
    else:
        option = f"--{name}={value}" if value else f"--{name}"
        found.add("slurm.extra", option, given)


def _gpus(found: Found, given: Given, name: str, gpus: int, nodes: int) -> None:
    each = gpus // nodes if name == "gpus" and gpus % nodes == 0 else gpus
    found.put("nproc_per_node", each, given, "a process for each GPU")
    kind = re.search(r"(?:^|:)([A-Za-z][\w.-]*):\d+", str(given.value).removeprefix("gpu:"))
    if kind and kind[1] != "gpu":
        found.profile("gpu_type", kind[1], given)


def gpus_in(value: str, name: str = "gres") -> int | None:
    """The number in `gpu:4`, `gpu:h100:4`, `h100:4` or `4`; for --gres of gpus alone."""
    if name == "gres" and not value.startswith("gpu"):
        return None
    number = value.rpartition(":")[2]
    if value == "gpu":
        return 1
    return int(number) if re.fullmatch(r"[1-9]\d{0,3}", number) else None


def gpus_of(devices: str) -> int | None:
    """How many GPUs `0,1,2,3`, or deepspeed's `localhost:0,1`, names."""
    numbers = devices.rpartition(":")[2].split(",")
    return len(numbers) if all(re.fullmatch(r"\s*\d{1,3}\s*", number) for number in numbers) else None


def _first(value: str) -> int | None:
    number = value.partition("-")[0]
    return int(number) if re.fullmatch(r"[1-9]\d{0,5}", number) else None
