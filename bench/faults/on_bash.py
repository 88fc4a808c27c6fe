"""Runs of two nodes by the rendered bash script, started by hand on each: the nodes are network namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.support.command import Command
from tests.support.ports import free_port

from ..preflight.nodes import Place, place
from .laboratory import PATIENCE, Laboratory, weights

_NODES = 2


class User(Command):
    """A folder of job files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("ALIGNLAUNCH", "XDG_"))}
        self.env |= {"HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}

    def write_job(self, name: str, **keys: Any) -> None:
        """A job file; `keys` over a small job."""
        job = {"name": name, "stage": "sft", "model": "model", "nproc_per_node": 1}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(job | keys), encoding="utf-8")


class BashLaboratory(Laboratory):
    """Two nodes that share a folder."""

    version = "two network namespaces"

    def __init__(self, nodes: Place) -> None:
        self.nodes = nodes
        self.outside = {
            "network cut for 5 s": lambda _: self._cut(5),
            "network cut for 40 s": lambda _: self._cut(40),
            "node lost, and its script started again": self._replace_node,
        }
        self._started: dict[str, list[subprocess.Popen[str]]] = {}
        super().__init__(User(nodes.folder))

    def start(self, name: str) -> str:
        """As the script's head says: the same line on each node, but for its number."""
        self.user.call("render", f"{name}.yaml", "--target", "bash")
        self._port = free_port()
        self._started[name] = [self._start_node(name, node) for node in range(_NODES)]
        return name

    def _start_node(self, name: str, node: int) -> subprocess.Popen[str]:
        command = ["bash", f"launch/{name}/bash/torchrun.sh", "0", str(_NODES), "1", "node-0", str(self._port)]
        env = {"HF_HUB_OFFLINE": "1", "ALIGNLAUNCH_PYTHON": sys.executable, "NODE_RANK": str(node)}
        return self.nodes.run(node, command, env, f"exec >> {name}.log 2>&1; mount --bind hosts /etc/hosts")

    def wait(self, handle: str) -> str:
        deadline = time.monotonic() + PATIENCE
        codes = []
        for process in self._started[handle]:
            try:
                codes.append(process.wait(max(1.0, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        return "COMPLETED" if not any(codes) else f"exit codes {codes}"

    def log(self, handle: str) -> str:
        return self.read(f"{handle}.log")

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8", errors="replace")

    def has_result(self, name: str) -> bool:
        return weights(self.folder / self.output(name))

    def mend(self) -> None:
        self._link("up")

    def _cut(self, seconds: float) -> None:
        self._link("down")
        time.sleep(seconds)
        self._link("up")

    def _link(self, state: str) -> None:
        subprocess.run([*self.nodes.nodes[1].enter, "ip", "link", "set", "eth0", state], check=True)

    def _replace_node(self, handle: str) -> None:
        self._started[handle][1].kill()
        self._started[handle][1].wait()
        self._started[handle][1] = self._start_node(handle, 1)


@contextmanager
def laboratory() -> Iterator[BashLaboratory]:
    """Two new nodes."""
    with (
        tempfile.TemporaryDirectory(prefix="alignlaunch-faults-") as scratch,
        place(Path(scratch), _NODES) as nodes,
    ):
        yield BashLaboratory(nodes)
