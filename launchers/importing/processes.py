"""How many nodes and processes, from the options of torchrun, deepspeed, accelerate and srun."""

from __future__ import annotations

import re
from typing import Any

from .found import Found, Given
from .launch import Launch
from .sbatch import gpus_of

#: Options that a launcher of ours decides.
_MEETING = "the nodes of a job find each other"
_LOGS = "the logs of every process are kept in the run's folder"
_NOT_NEEDED = {
    **dict.fromkeys(
        "node_rank master_addr master_port rdzv_id rdzv_backend rdzv_endpoint rdzv_conf local_addr".split(), _MEETING
    ),
    **dict.fromkeys(
        "machine_rank main_process_ip main_process_port same_network hostfile H launcher".split(), _MEETING
    ),
    **dict.fromkeys(
        "standalone no_ssh no_ssh_check force_multi ssh_port deepspeed_multinode_launcher".split(), _MEETING
    ),
    **dict.fromkeys("log_dir logs_specs r t redirects tee local_ranks_filter role enable_each_rank_log".split(), _LOGS),
    **dict.fromkeys(("multi_gpu", "main_training_function"), "nnodes and nproc_per_node say it"),
    **dict.fromkeys(
        "module m no_python run_path no_local_rank quiet q debug monitor_interval start_method".split(),
        "alignlaunch starts its own entrypoint",
    ),
    **dict.fromkeys(("use_deepspeed", "zero3_init_flag", "deepspeed_moe_layer_cls_names"), "`zero` says it"),
}
_SRUN_NOT_NEEDED = "l label u unbuffered K kill-on-bad-exit nodes N ntasks n jobid export o output e error overlap exact wait cpu-bind mpi".split()


_PROCESSES = ("nproc_per_node", "nproc-per-node")


def whole(given: Given) -> int | None:
    """A positive whole number, if it is known."""
    text = str(given.value)
    return int(text) if not given.unknown and re.fullmatch(r"[0-9]{1,6}", text) and int(text) else None


def unknown(given: Given, value: Any) -> str:
    return f"{', '.join(given.unknown)} is known only when the script runs (give it after `--`); {value} is a guess"


def count(found: Found, key: str, given: Given, fallback: int = 1) -> None:
    """A number of nodes or processes."""
    number = whole(given)
    if number is not None:
        found.put(key, number, given)
    elif given.unknown:
        found.put(key, fallback, given, guess=unknown(given, fallback))
    else:
        found.put(key, fallback, given, guess=f"{given.value} there: one for each GPU of the node; write their number")


def translate(found: Found, launch: Launch, variables: dict[str, Given]) -> None:
    """Put nnodes, nproc_per_node and launcher. variables: what the script sets for the command."""
    devices = variables.get("CUDA_VISIBLE_DEVICES")
    visible = gpus_of(str(devices.value)) if devices is not None else None
    options = {given.name.lstrip("-").replace("-", "_"): given for given in launch.options}
    started = Given(launch.launcher, None, launch.program.line)
    if launch.launcher == "accelerate":
        _accelerate(found, options)
    for name, given in options.items():
        if name in ("nnodes", "num_nodes"):
            elastic = re.fullmatch(r"([1-9]\d{0,4}):([1-9]\d{0,4})", str(given.value))
            if elastic and elastic[1] != elastic[2]:
                found.put("nnodes", given.value, given)
            else:
                count(found, "nnodes", given._replace(value=elastic[1]) if elastic else given)
        elif name in ("nproc_per_node", "num_gpus", "num_accelerators"):
            count(found, "nproc_per_node", given, visible or 1)
        elif name == "include" and (gpus := gpus_of(str(given.value))):
            found.put("nproc_per_node", gpus, given, "these GPUs are not chosen by number here")
        elif name == "max_restarts" and (number := whole(given)):
            found.put("max_restarts", number, given)
        elif name == "max_restarts":
            found.drop(given, "alignlaunch starts processes again after a fault (`max_restarts`)")
        elif name in _NOT_NEEDED:
            found.drop(given, _NOT_NEEDED[name])
        elif launch.launcher != "accelerate":
            found.refuse(given, f"an option of {launch.launcher} that a job file does not have")
    found.put("launcher", "deepspeed" if launch.launcher == "deepspeed" else "torchrun", started)
    if launch.program.name == "llamafactory-cli":
        for name, key in (("NNODES", "nnodes"), ("NPROC_PER_NODE", "nproc_per_node")):
            if name in variables:
                count(found, key, variables[name])
    if launch.srun is not None:
        _srun(found, launch, launch.srun)
    _silent(found, launch, visible)


def _silent(found: Found, launch: Launch, visible: int | None) -> None:
    """What a launcher does without being told."""
    found.default("nnodes", 1, launch.launcher)
    if launch.launcher == "torchrun" and not any(given.name.lstrip("-") in _PROCESSES for given in launch.options):
        found.put(
            "nproc_per_node",
            1,
            Given(launch.launcher, None, launch.program.line),
            "without --nproc-per-node it starts one",
        )
    elif launch.launcher in ("torchrun", "python") and launch.program.name not in (
        "llamafactory-cli",
        "axolotl",
        "trl",
    ):
        found.default("nproc_per_node", 1, launch.launcher)
    elif visible:
        found.fill("nproc_per_node", visible, "the GPUs of CUDA_VISIBLE_DEVICES")
    else:
        found.fill("nproc_per_node", 1, f"{launch.launcher} takes every GPU of the node; write their number")


def _srun(found: Found, launch: Launch, options: list[Given]) -> None:
    for given in options:
        name = given.name.lstrip("-")
        if name == "ntasks-per-node":
            number = whole(given)
            if launch.launcher == "python" and number and number > 1:
                found.put("nproc_per_node", number, given)
                found.put("launcher", "direct", Given("srun", None, launch.program.line), "a task for each process")
            else:
                found.drop(given, "one task a node, which starts its processes")
        elif name in ("container-image", "container-mounts"):
            launch.container.append(given)
        elif name in _SRUN_NOT_NEEDED:
            found.drop(given, "alignlaunch's own srun line decides it")
        else:
            found.refuse(given, "an option of srun; sbatch's own may stand in `slurm.extra`")
    if launch.launcher == "python" and "launcher" in found.job and found.job["launcher"].value == "torchrun":
        tasks = found.job.get("nproc_per_node")
        if tasks is not None and isinstance(tasks.value, int) and tasks.value > 1:
            found.put("launcher", "direct", Given("srun", None, launch.program.line), "a task for each process")


def _accelerate(found: Found, options: dict[str, Given]) -> None:
    """accelerate counts the processes of all nodes together."""
    machines, processes = options.pop("num_machines", None), options.pop("num_processes", None)
    if machines is not None:
        count(found, "nnodes", machines)
    if processes is not None:
        total, nodes = whole(processes), found.job["nnodes"].value if "nnodes" in found.job else 1
        if total and isinstance(nodes, int) and total % nodes == 0:
            found.put("nproc_per_node", total // nodes, processes, f"{total} on {nodes} node{'s' * (nodes > 1)}")
        else:
            count(found, "nproc_per_node", processes._replace(value=None if total else processes.value))
    precision = options.pop("mixed_precision", None)
    if precision is not None:
        mixed(found, precision)
    steps, clipping = options.pop("gradient_accumulation_steps", None), options.pop("gradient_clipping", None)
    for given, key in ((steps, "train.gradient_accumulation_steps"), (clipping, "train.max_grad_norm")):
        if given is not None:
            _number(found, key, given)
    for name in [name for name in options if name.startswith(("fsdp", "use_fsdp", "parallelism", "use_parallelism"))]:
        found.refuse(options.pop(name), "FSDP; `zero: 3` shards as its FULL_SHARD does")
    for name in [name for name in options if name not in _NOT_NEEDED and name not in ("max_restarts", "num_nodes")]:
        given = options.pop(name)
        if str(given.value).lower() in ("no", "none", "false", "-1"):
            found.drop(given, "off, as here")
        elif name == "num_cpu_threads_per_process":
            found.put("env.OMP_NUM_THREADS", str(given.value), given)
        elif name == "gpu_ids":
            found.drop(given, "GPUs are not chosen by number here")
        elif name == "cpu" or name == "use_cpu":
            found.profile("device", "cpu", given)
        else:
            found.refuse(given, "an option of accelerate that a job file does not have")


def _number(found: Found, key: str, given: Given) -> None:
    try:
        number = float(str(given.value))
    except ValueError:
        found.drop(given, "the trainer's own argument decides it")  # "auto"
        return
    found.put(key, int(number) if number.is_integer() and key.endswith("steps") else number, given)


def mixed(found: Found, given: Given) -> None:
    """accelerate's mixed_precision."""
    if str(given.value) == "fp16":
        found.put("train.fp16", True, given)
    elif str(given.value) not in ("bf16", "no"):
        found.refuse(given, "training is in bf16, fp16 or fp32")
        return
    found.put("train.bf16", str(given.value) == "bf16", given)
