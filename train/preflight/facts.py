"""The facts of this node: those that must be the same on all nodes (see `compare`), and what is wrong on this one."""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import shutil
import socket
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ..config import TrainConfig
from ..processes import network
from . import gpus, samples, sockets
from .findings import Finding
from .gpus import Gpu
from .node import Node

_PACKAGES = ("alignlaunch", "torch", "transformers", "trl", "accelerate", "peft", "deepspeed", "bitsandbytes")
_GIB = 2**30
_SHM = Path("/dev/shm")  # noqa: S108 - where NCCL and data loaders share memory
#: With less, not even a small model's weights can be saved.
_LEAST_DISK_GIB = 1.0
#: Docker's default is 0.06 (64 MiB); NCCL and data loaders need more.
_LEAST_SHM_GIB = 0.5
_LEAST_OPEN_FILES = 4096


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one node, as they are sent to node 0."""

    node_rank: int
    run_id: str
    host: str
    #: The same for nodes that share one machine's network stack (`network.machine`).
    machine: str
    #: Where the others reach this node for the link test; None: at the address from which it connects to node 0.
    address: str | None
    link_port: int = 0
    #: The loopback address that gloo would give the others to connect to; None: it would give a usable one.
    gloo_loopback: str | None
    #: {name: value} of all that should be the same on every node.
    same: dict[str, str]
    findings: list[Finding]


def gather(node: Node, job: TrainConfig, job_file: Path) -> Facts:
    """Gather this node's facts. Waits for no other node; of data files it reads a bounded amount (`samples`)."""
    found = gpus.visible()
    wanted = network.chosen_interface()
    interface = network.interface_named(wanted) if wanted else None
    same = {"nnodes": str(node.nnodes), "nproc_per_node": str(node.nproc_per_node)}
    same |= _files(job, job_file) | _versions() | _devices(found, interface)
    findings = [*_of_gpus(found, node), *_of_port(node), *_of_output(Path(job.output_dir)), *_of_limits(node)]
    if wanted and interface is None:
        findings.append(_no_interface(wanted))
    return Facts(
        node_rank=node.node_rank,
        run_id=node.run_id,
        host=socket.gethostname(),
        machine=network.machine(),
        address=network.address_of(interface) if interface else None,
        gloo_loopback=None if found or os.environ.get("GLOO_SOCKET_IFNAME") else _loopback(),
        same=same,
        findings=findings,
    )


def _files(job: TrainConfig, job_file: Path) -> dict[str, str]:
    named = {job_file.name: job_file}
    if job.deepspeed:
        named[job.deepspeed] = job_file.parent / job.deepspeed
    found = {name: samples.of(path) for name, path in named.items()}
    found["alignlaunch's code"] = samples.of(Path(__file__).parents[1])
    read = {"model": job.model, "tokenizer": job.tokenizer}
    for role in ("train", "validation"):
        read |= {f"data.{role} {source.path}": source.path for source in job.data.sources(role)}
    read |= {f"train.{key}": value for key, value in job.train.items() if key.endswith("_reward_model")}
    return found | {key: samples.of(Path(path)) for key, path in read.items() if path}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    found["CUDA of torch"] = _cuda_of_torch()
    nccl = {str(one.version) for one in metadata.distributions() if str(one.name).startswith("nvidia-nccl-")}
    return found | {"NCCL": ", ".join(sorted(nccl)) or "none"}


def _cuda_of_torch() -> str:
    """The CUDA version that torch was built for, read from its version.py, because importing torch takes seconds."""
    spec = find_spec("torch")
    try:
        text = Path(str(spec and spec.origin)).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return "none"
    found = re.search(r"^cuda\b.*= *['\"]([^'\"]+)", text, re.MULTILINE)
    return found[1] if found else "none"


def _devices(found: list[Gpu], interface: str | None) -> dict[str, str]:
    ports = network.infiniband().values()
    mtu = network.mtu(interface) if interface else None
    return {
        "GPUs": str(len(found)),
        "GPU type": ", ".join(sorted({f"{gpu.name} {gpu.memory_gib:.0f} GiB" for gpu in found})) or "none",
        "bf16": "yes" if found and all(gpu.bf16 for gpu in found) else "no",
        "driver": ", ".join(sorted({gpu.driver for gpu in found})) or "none",
        "InfiniBand ports": f"{sum(state == 'ACTIVE' for state in ports)} of {len(ports)} active",
        "MTU": str(mtu or "unknown"),
    }


def _of_gpus(found: list[Gpu], node: Node) -> list[Finding]:
    findings = []
    if found and len(found) < node.nproc_per_node and not node.direct:
        text = f"nproc_per_node is {node.nproc_per_node}, but {len(found)} GPUs are visible"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        findings.append(
            Finding(f"{text} (CUDA_VISIBLE_DEVICES {visible})", "ask for as many GPUs as processes on each node")
        )
    for index, gpu in enumerate(found):
        if gpu.free_gib < 0.9 * gpu.memory_gib:
            text = f"GPU {index}: only {gpu.free_gib:.1f} of {gpu.memory_gib:.1f} GiB are free"
            remedy = "see who is there with `nvidia-smi`; a process left by an earlier job can be ended"
            findings.append(Finding(text, remedy, error=False))
    return findings


def _of_port(node: Node) -> list[Finding]:
    """Whether the launcher's port is free, on node 0, which will listen on it."""
    if node.node_rank != 0 or node.nnodes * node.nproc_per_node == 1:
        return []
    obstacle = sockets.obstacle(node.master_port)
    if obstacle is None:
        return []
    text = f"MASTER_PORT {node.master_port} cannot be listened on: {sockets.words(obstacle)}"
    remedy = "choose another; or end what is there (ss -ltnp), perhaps an earlier job's"
    return [Finding(text, remedy, retry=not sockets.is_final(obstacle))]


def _of_output(folder: Path) -> list[Finding]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A random name: process ids are not unique, as every pod has its own.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".preflight-") as probe:
            probe.write(b"alignlaunch")
        free = shutil.disk_usage(folder).free / _GIB
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space there" if full else "choose a folder that this user can write to"
        return [Finding(f"output_dir: {folder}: cannot be written: {error.strerror}", remedy)]
    if free < _LEAST_DISK_GIB:
        return [Finding(f"output_dir: {folder}: {free:.2f} GiB are free", "free some space there, or choose another")]
    return []


def _of_limits(node: Node) -> list[Finding]:
    findings = []
    try:
        shared = shutil.disk_usage(_SHM).total / _GIB
    except OSError:
        shared = 0.0
    if shared < _LEAST_SHM_GIB:
        text = f"{_SHM} holds {shared:.2f} GiB; NCCL and data loaders share memory there"
        findings.append(Finding(text, "docker: --shm-size or --ipc=host; Kubernetes: k8s.shm_size", error=False))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < _LEAST_OPEN_FILES:
        text = f"at most {files} open files (ulimit -n); {node.nnodes * node.nproc_per_node} processes connect here"
        findings.append(Finding(text, f"ulimit -n {_LEAST_OPEN_FILES} or more on the nodes", error=False))
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if network.infiniband() and locked != resource.RLIM_INFINITY:
        text = f"at most {locked >> 10} KiB of locked memory (ulimit -l); InfiniBand wants no limit"
        findings.append(Finding(text, "ulimit -l unlimited; on Kubernetes the capability IPC_LOCK", error=False))
    return findings


def _no_interface(wanted: str) -> Finding:
    names = ", ".join(name for _, name in socket.if_nameindex())
    return Finding(
        f"network_interface (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME) is {wanted}, but this node has {names}",
        "name one that every node has, in the cluster profile or under `env:`",
    )


def _loopback() -> str | None:
    """The loopback address to which the host's own name resolves, which gloo uses if no interface is named; or None."""
    address = network.resolved(socket.gethostname())
    return address if network.is_loopback(address) else None
