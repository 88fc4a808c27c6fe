"""What goes wrong between nodes, provoked for real: each fault with what preflight must say of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.preflight.nodes import PORT, Place, place

RESOLVED = """\
name: fault
stage: sft
model: model
data: {train: [data]}
output_dir: output
"""
_LISTEN = "import socket, time; s = socket.create_server(('', {port})); print(flush=True); time.sleep(3600)"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Two nodes or more, one of which is not as it should be."""

    name: str
    #: What node N has in place of what the launcher gives it; a node without an entry is as it should be.
    env: dict[int, dict[str, str]] = field(default_factory=dict)
    #: Shell lines that node N runs first, in a mount namespace of its own.
    before: dict[int, str] = field(default_factory=dict)
    #: What undoes it, where namespaces outlive it.
    after: dict[int, str] = field(default_factory=dict)
    #: Port that a program which never answers holds on node 0.
    held_port: int | None = None
    nnodes: int = 2
    #: The nodes that are started; others are missing.
    started: tuple[int, ...] = (0, 1)
    #: Part of what some node says, and the exit code of the nodes that know the cause; others may end with 3.
    said: str
    code: int
    #: Whether torchrun is asked too: the others are no matter of the rendezvous.
    rendezvous: bool = False


_OVERLAID = "mount -t tmpfs tmpfs output"
_HOSTS = "mount --bind hosts.loopback-{node} /etc/hosts"
FAULTS = [
    Fault(
        name="NODE_RANK 0 twice",
        env={1: {"PET_NODE_RANK": "0"}},
        said="NODE_RANK 0 is there twice: on node-0 and on node-1",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="NODE_RANK 1 twice, no 0",
        env={0: {"PET_NODE_RANK": "1"}},
        said="this node has the address of MASTER_ADDR itself, but NODE_RANK 1",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="NODE_RANK 1 twice, of three nodes",
        env={2: {"PET_NODE_RANK": "1"}},
        nnodes=3,
        started=(0, 1, 2),
        said="NODE_RANK 1 is there twice",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="NODE_RANK beyond nnodes",
        env={1: {"PET_NODE_RANK": "2"}},
        started=(1,),
        said="PET_NODE_RANK=2: with PET_NNODES=2 it goes from 0 to 1",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="nproc_per_node 1 and 2",
        env={1: {"PET_NPROC_PER_NODE": "2"}},
        said="nproc_per_node is 2 on node 1 (node-1) and 1 on node 0",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="nnodes 2 and 3",
        env={1: {"PET_NNODES": "3"}},
        said="nnodes is 3 on node 1 (node-1) and 2 on node 0",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="a node never comes",
        started=(0,),
        said="node 1 of 2 never came to node-0:19500; here are 0 on node-0",
        code=3,
        rendezvous=True,
    ),
    Fault(
        name="node 0 never comes",
        started=(1,),
        said="node 1 cannot reach node 0 at node-0:19500 (MASTER_ADDR): Connection refused",
        code=3,
        rendezvous=True,
    ),
    Fault(
        name="MASTER_ADDR is nobody's",
        env={n: {"PET_MASTER_ADDR": "10.244.99.99"} for n in (0, 1)},
        said="at 10.244.99.99:19500 (MASTER_ADDR): No route to host",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="MASTER_ADDR does not resolve",
        env={n: {"PET_MASTER_ADDR": "nowhere.invalid"} for n in (0, 1)},
        said="the name does not resolve: Temporary failure",  # no name server answers here
        code=3,
        rendezvous=True,
    ),
    Fault(
        name="MASTER_ADDR is no name",
        env={n: {"PET_MASTER_ADDR": ".cluster.local"} for n in (0, 1)},
        said="the name does not resolve: ",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="MASTER_ADDR is loopback",
        env={n: {"PET_MASTER_ADDR": "127.0.0.1"} for n in (0, 1)},
        said="127.0.0.1 is a loopback address: every node finds itself there",
        code=2,
        rendezvous=True,
    ),
    Fault(
        name="MASTER_PORT is taken",
        held_port=29500,
        said="MASTER_PORT 29500 cannot be listened on: Address already in use",
        code=3,
        rendezvous=True,
    ),
    Fault(
        name="preflight's port is taken by a mute program",
        held_port=19500,
        said="19500",
        code=3,
    ),
    Fault(
        name="a firewall drops node 1's packets",
        before={1: "ip neigh replace 10.244.0.2 lladdr 02:00:00:00:00:01 dev eth0 nud permanent"},
        after={1: "ip neigh del 10.244.0.2 dev eth0"},
        said="no answer",
        code=3,
        rendezvous=True,
    ),
    Fault(
        name="another run's node",
        env={n: {"SLURM_JOB_ID": f"{7 + n}", "SLURM_STEP_ID": "0"} for n in (0, 1)},
        said="node-1 belongs to another run (8) than node 0 (7)",
        code=2,
    ),
    Fault(
        name="job.resolved.yaml differs",
        before={1: "sed s/fault/other/ job.resolved.yaml > other.yaml; mount --bind other.yaml job.resolved.yaml"},
        said="job.resolved.yaml differs: ",
        code=2,
    ),
    Fault(
        name="data missing on one node",
        before={1: "mkdir -p empty; mount --bind empty data"},
        env={},
        said="data.train data differs: 1 file, ",
        code=2,
    ),
    Fault(
        name="output_dir not shared",
        before={1: _OVERLAID},
        said="what node 0 writes there, node 1 does not see",
        code=2,
    ),
    Fault(
        name="output_dir read-only on one node",
        before={1: f"{_OVERLAID} -o ro"},
        said="node 1 (node-1): output_dir: output: cannot be written: Read-only file system",
        code=2,
    ),
    Fault(
        name="disk full",
        before=dict.fromkeys((0, 1), f"{_OVERLAID} -o size=1m"),
        said="GiB are free",
        code=2,
    ),
    Fault(
        name="no such interface",
        env={1: {"NCCL_SOCKET_IFNAME": "ib7"}},
        said="node 1 (node-1): network_interface (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME) is ib7, but this node has",
        code=2,
    ),
    Fault(
        name="another version of transformers",
        before={
            1: "mkdir -p site/transformers-4.0.0.dist-info; "
            "printf 'Metadata-Version: 2.1\\nName: transformers\\nVersion: 4.0.0\\n' "
            "> site/transformers-4.0.0.dist-info/METADATA; export PYTHONPATH=$PWD/site:$PYTHONPATH"
        },
        said="transformers differs: ",
        code=2,
    ),
    Fault(
        name="fewer GPUs on one node",
        before={n: f"export PATH=$PWD/gpus-{gpus}:$PATH" for n, gpus in ((0, 2), (1, 1))},
        said="GPUs differs: 2 on node 0 (node-0); 1 on node 1 (node-1)",
        code=2,
    ),
    Fault(
        name="the hosts' own names resolve to loopback",
        before={n: _HOSTS.format(node=n) for n in (0, 1)},
        said="nodes 0, 1: the host's own name, node-0, resolves to 127.0.1.1",
        code=2,
        rendezvous=True,
    ),
]


class Outcome(NamedTuple):
    """What became of a node."""

    code: int | None  # None: it had not ended in the time given to it
    said: str
    seconds: float


def prepare(folder: Path) -> None:
    """What a job needs to be looked at; nothing is trained."""
    (folder / "job.resolved.yaml").write_text(RESOLVED)
    for name in ("model", "data", "output"):
        (folder / name).mkdir()
    (folder / "model/config.json").write_text("{}")
    (folder / "data/train.jsonl").write_text('{"text": "x"}\n')
    for node, other in ((0, "10.244.0.3 node-1"), (1, "10.244.0.2 node-0")):
        (folder / f"hosts.loopback-{node}").write_text(f"127.0.0.1 localhost\n127.0.1.1 node-{node}\n{other}\n")
    for count in (1, 2):
        tool = folder / f"gpus-{count}/nvidia-smi"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\nfor i in $(seq {count}); do echo 'H100, 81559, 81000, 9.0, 550.54'; done\n")
        tool.chmod(0o755)


def outcomes(fault: Fault, command: list[str], patience: float) -> dict[int, Outcome]:
    """The fault between nodes of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="preflight-") as folder,
        place(Path(folder), max(fault.started) + 1) as nodes,
    ):
        prepare(nodes.folder)
        return provoke(nodes, fault, command, patience)


def provoke(place: Place, fault: Fault, command: list[str], patience: float) -> dict[int, Outcome]:
    """Run the command on every node that is started, and wait for all of them."""
    with _holding(place, fault.held_port):
        start = time.monotonic()
        running = {node: _start(place, fault, node, command) for node in fault.started}
        found = {node: _outcome(process, start, patience) for node, process in running.items()}
    for node, undo in fault.after.items():
        place.run(node, ["true"], {}, undo).communicate()
    return found


def _start(place: Place, fault: Fault, node: int, command: list[str]) -> subprocess.Popen[str]:
    env = {
        "PET_NNODES": str(fault.nnodes),
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": str(node),
        "PET_MASTER_ADDR": "node-0",
        "PET_MASTER_PORT": str(PORT),
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    hosts = "mount --bind hosts /etc/hosts"
    return place.run(node, command, env | fault.env.get(node, {}), f"{hosts}\n{fault.before.get(node, '')}")


def _outcome(process: subprocess.Popen[str], start: float, patience: float) -> Outcome:
    try:
        said, _ = process.communicate(timeout=max(0.1, start + patience - time.monotonic()))
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        code = None
    return Outcome(code, said, time.monotonic() - start)


@contextmanager
def _holding(place: Place, port: int | None) -> Iterator[None]:
    """A program on node 0 that listens and never answers."""
    if port is None:
        yield
        return
    holder = place.run(0, [sys.executable, "-c", _LISTEN.format(port=port)], {})
    try:
        if holder.stdout and holder.stdout.readline():  # it listens
            yield
    finally:
        holder.kill()
        holder.communicate()
