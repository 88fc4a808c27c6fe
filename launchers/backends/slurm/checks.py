"""Checks before a submission for what Slurm does not report: jobs that would stay pending for ever, lost logs."""

from __future__ import annotations

import os
import shutil

from ...errors import UsageError
from ...job.job import Job, seconds
from . import client
from .answers import Nodes


def check(job: Job) -> list[str]:
    """Warnings about a job. Raises UsageError if its partition cannot ever run it, or its log cannot be written."""
    spec, doubts = job.spec, list[str]()
    if "\\" in str(job.dir.resolve() / job.cluster.runs_dir):
        raise UsageError(
            f"{job.dir.resolve()}: Slurm cannot write a log below a folder with a backslash in its name\n"
            "    remedy: rename the folder, or have `runs_dir` in the cluster profile lie elsewhere"
        )
    if job.tasks_per_node < spec.nproc_per_node and spec.slurm.cpus_per_task is None:
        doubts.append(
            "no slurm.cpus_per_task: many clusters then give one CPU to all "
            f"{spec.nproc_per_node} processes of a node and their data loaders; 8 for each GPU is usual"
        )
    if spec.time is not None and job.signal_seconds < spec.slurm.signal_seconds:
        doubts.append(
            f"time: {spec.time} is not longer than slurm.signal_seconds ({spec.slurm.signal_seconds} s): "
            "the time limit ends the run without a checkpoint"
        )
    if partitions := _partitions(job):
        refusals = [_why_too_small(job, nodes) for nodes in partitions.values()]
        if all(refusals):
            raise UsageError("\n".join(filter(None, refusals)))
        doubts += filter(None, [_too_long(job, nodes) for nodes in partitions.values()])
    return doubts


def _partitions(job: Job) -> dict[str, list[Nodes]]:
    """The nodes of each partition that the job may run in; empty if these are not known, or without Slurm here."""
    elsewhere = any(option.startswith("--cluster") for option in job.spec.slurm.extra)
    if elsewhere or {"SBATCH_PARTITION", "SBATCH_CLUSTERS", "SLURM_CLUSTERS"} & set(os.environ):
        return {}
    if shutil.which("sinfo") is None:
        return {}
    known = client.sinfo()
    wanted = job.spec.slurm.partition
    names = wanted.split(",") if wanted else [nodes.partition for nodes in known if nodes.is_default]
    found = {name: [nodes for nodes in known if nodes.partition == name] for name in names}
    return {name: nodes for name, nodes in found.items() if nodes}


def _why_too_small(job: Job, nodes: list[Nodes]) -> str:
    """Why a partition has too few nodes of the size that the job asks for; "" if it has enough."""
    spec = job.spec
    cpus = (spec.slurm.cpus_per_task or 1) * job.tasks_per_node
    gpus = spec.nproc_per_node if job.cluster.device == "gpu" else 0
    fitting = sum(kind.number for kind in nodes if kind.cpus >= cpus and _gpus(job, kind) >= gpus)
    if fitting >= job.nnodes:
        return ""
    gpu = f"{job.cluster.gpu_type} GPUs" if job.cluster.gpu_type else "GPUs"
    size = f"{cpus} CPUs and {gpus} {gpu}" if gpus else f"{cpus} CPUs"
    total = sum(kind.number for kind in nodes)
    return (
        f"nnodes: {job.nnodes} with {size} each: partition {nodes[0].partition} has {total} nodes, "
        f"{fitting} of them of that size; the job would wait for ever\n"
        "    remedy: ask for fewer or smaller nodes, or for another slurm.partition (see `sinfo`)"
    )


def _gpus(job: Job, kind: Nodes) -> int:
    wanted = job.cluster.gpu_type
    return kind.gpus.get(wanted, 0) if wanted else sum(kind.gpus.values())


def _too_long(job: Job, nodes: list[Nodes]) -> str:
    """The warning for a time over the partition's limit; "" if it is not.

    By default Slurm accepts such a job; it then stays pending unless a QOS or an administrator lets it run.
    """
    limit = seconds(nodes[0].limit) if nodes[0].limit[:1].isdigit() or nodes[0].limit == "infinite" else None
    requested = seconds(job.spec.time) if job.spec.time is not None else 0
    if limit is None or (requested is not None and requested <= limit):
        return ""
    return (
        f"time: {job.spec.time} is over the limit of partition {nodes[0].partition} ({nodes[0].limit}): "
        "unless its QOS allows it, the job will wait for ever"
    )
