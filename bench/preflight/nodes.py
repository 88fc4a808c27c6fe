"""Several nodes on this machine: network namespaces with addresses and host names of their own. Needs root."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.network import PodNetwork, PodSandbox

PORT = 29500
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Place:
    """The folder that all nodes share, and the nodes."""

    folder: Path
    nodes: list[PodSandbox]

    def run(self, node: int, command: list[str], env: Mapping[str, str], before: str = "") -> subprocess.Popen[str]:
        """Start a command on a node. `before`: shell lines run first, whose mounts nobody else sees."""
        script = f"set -e\n{before}\nexec {shlex.join(command)}"
        inherited = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
        # With its own process ids all that it starts dies with it: torchrun's workers outlive their agent otherwise.
        own_world = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        return subprocess.Popen(
            [*self.nodes[node].enter, *own_world, "bash", "-c", script],
            cwd=self.folder,
            env=inherited | own | dict(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def place(folder: Path, count: int) -> Iterator[Place]:
    """`count` nodes, node-0, node-1, ..., at 10.244.0.2, 10.244.0.3, ..."""
    network = PodNetwork()
    network.start()
    nodes: list[PodSandbox] = []
    try:
        nodes += (network.add_pod(f"node-{n}") for n in range(count))
        hosts = "".join(f"{node.address} node-{n}\n" for n, node in enumerate(nodes))
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        yield Place(folder, nodes)
    finally:
        for node in nodes:
            node.stop()
        network.stop()
