"""How many nodes and processes, from the options of torchrun, deepspeed and srun."""

from __future__ import annotations

import re

from . import accelerate, counts
from .arguments import last, plain
from .found import Found, Given
from .launch import Launch

#: Options that a launcher of ours decides, and why.
NOT_NEEDED = {
    name: why
    for why, names in {
        "the nodes of a job find each other": "node_rank master_addr master_port rdzv_id rdzv_backend rdzv_endpoint "
        "rdzv_conf local_addr machine_rank main_process_ip main_process_port same_network hostfile H launcher "
        "standalone no_ssh no_ssh_check force_multi ssh_port deepspeed_multinode_launcher",
        "the logs of every process are kept in the run's folder": "log_dir logs_specs r t redirects tee role "
        "local_ranks_filter enable_each_rank_log",
        "nnodes and nproc_per_node say it": "multi_gpu main_training_function",
        "alignlaunch starts its own entrypoint": "module m no_python run_path no_local_rank quiet q debug "
        "monitor_interval start_method",
        "alignlaunch starts processes again after a fault": "max_restarts",
        "`zero` says it": "use_deepspeed zero3_init_flag deepspeed_moe_layer_cls_names",
    }.items()
    for name in names.split()
}
_SRUN_NOT_NEEDED = frozenset(
    "l label u unbuffered K kill-on-bad-exit nodes N ntasks n jobid export o output e error overlap exact wait "
    "cpu-bind mpi".split()
)
_NODES, _PROCESSES = ("nnodes", "num_nodes"), ("nproc_per_node", "num_gpus", "num_accelerators")


def translate(found: Found, launch: Launch, variables: dict[str, Given]) -> None:
    """Put nnodes, nproc_per_node and launcher. variables: what the script sets for the command."""
    devices = variables.get("CUDA_VISIBLE_DEVICES")
    visible = counts.gpus_of(str(devices.value)) if devices is not None else None
    options = {plain(given): given for given in last(found, launch.options)}
    if launch.launcher == "accelerate":
        accelerate.translate(found, options, NOT_NEEDED)
    for name, given in options.items():
        if name in _NODES:
            _nodes(found, given)
        elif name in _PROCESSES:
            counts.put(found, "nproc_per_node", given, visible or 1)
        elif name == "include" and (gpus := counts.gpus_of(str(given.value))):
            found.put("nproc_per_node", gpus, given, "these GPUs are not chosen by number here")
        elif name == "max_restarts" and (number := counts.whole(given)):
            found.put("max_restarts", number, given)
        elif name in NOT_NEEDED:
            found.drop(given, NOT_NEEDED[name])
        else:
            found.refuse(given, f"an option of {launch.launcher} that a job file does not have")
    started = Given(launch.launcher, None, launch.program.line)
    found.put("launcher", "deepspeed" if launch.launcher == "deepspeed" else "torchrun", started)
    for name, key in (("NNODES", "nnodes"), ("NPROC_PER_NODE", "nproc_per_node")):
        if name in variables and launch.program.name == "llamafactory-cli":
            counts.put(found, key, variables[name])
    if launch.srun is not None:
        _srun(found, launch, launch.srun)
    found.default("nnodes", 1, launch.launcher)
    if launch.launcher == "torchrun" and not options.keys() & {*_PROCESSES}:
        found.put("nproc_per_node", 1, started, "without --nproc-per-node it starts one")
    _every_gpu(found, launch, visible)


def _nodes(found: Found, given: Given) -> None:
    """torchrun's MIN:MAX is an elastic job."""
    least, colon, most = str(given.value).partition(":")
    if colon and counts.positive(least) and counts.positive(most) and least != most:
        found.put("nnodes", given.value, given)
    else:
        counts.put(found, "nnodes", given._replace(value=least))


def _every_gpu(found: Found, launch: Launch, visible: int | None) -> None:
    """Where nothing says how many processes."""
    if launch.launcher == "python" and launch.program.name not in ("llamafactory-cli", "axolotl"):
        found.default("nproc_per_node", 1, launch.launcher)
    elif visible:
        found.fill("nproc_per_node", visible, "the GPUs of CUDA_VISIBLE_DEVICES")
    else:
        found.fill("nproc_per_node", 1, "one for each GPU of the node there: write their number")


def _srun(found: Found, launch: Launch, options: list[Given]) -> None:
    """srun starts one task a node, which starts its processes, or a task for each process."""
    for given in options:
        name = given.name.lstrip("-")
        if name == "ntasks-per-node" and launch.launcher == "python" and counts.whole(given):
            counts.put(found, "nproc_per_node", given)
        elif name == "ntasks-per-node":
            found.drop(given, "one task a node, which starts its processes")
        elif name in ("container-image", "container-mounts"):
            launch.container.append(given)
        elif name in _SRUN_NOT_NEEDED:
            found.drop(given, "alignlaunch's own srun line decides it")
        else:
            found.refuse(given, "an option of srun; sbatch's own may stand in `slurm.extra`")
    tasks = found.job.get("nproc_per_node")
    if launch.launcher == "python" and tasks is not None and re.fullmatch(r"[2-9]|[1-9]\d+", str(tasks.value)):
        found.put("launcher", "direct", Given("srun", None, launch.program.line), "a task for each process")
