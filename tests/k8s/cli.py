"""The alignlaunch command against a cluster, as a user with a kubeconfig would call it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import Command

from .cluster import Cluster


class User(Command):
    """A folder with job files, a cluster profile named `lab`, and a home of its own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("ALIGNLAUNCH", "XDG_"))}
        self.env |= {"HOME": str(folder / "home"), "KUBECONFIG": str(cluster.kubeconfig), "HF_HUB_OFFLINE": "1"}
        k8s = {
            "image": cluster.image,
            "working_dir": "/data",
            "volumes": {"data": {"pvc": "data", "mount_path": "/data"}},
            "cpu": "800m",  # two of them, and what a cluster runs itself, on a node with two
            "memory": "2Gi",
        }
        (folder / "clusters").mkdir()
        (folder / "clusters" / "lab.yaml").write_text(yaml.safe_dump({"device": "cpu", "k8s": k8s}))

    def write_job(self, name: str, **keys: Any) -> str:
        """A job file; `keys` over a small two-node job. Returns its name."""
        job = {
            "name": name,
            "stage": "sft",
            "model": "model",
            "data": {"train": ["sft.jsonl"]},
            "nnodes": 2,
            "nproc_per_node": 1,
            "zero": 0,
            "lora": None,
            "time": "00:10:00",
            "output_dir": f"out/{name}",
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(job | keys))
        return f"{name}.yaml"

    def write_script(self, name: str, script: str, k8s: dict[str, Any] | None = None, **keys: Any) -> str:
        """A job file whose pods run a shell script in place of the training."""
        container = {"name": "pytorch", "command": ["sh", "-c", script]}
        volumes = {"data": {"empty_dir": True, "pvc": None, "mount_path": "/data"}}
        # A shell as process 1 does not hear TERM: without this, deleting it takes half a minute.
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        own = {"pod_patch": {"spec": spec}, "volumes": volumes}
        return self.write_job(name, k8s=own | (k8s or {}), **keys)

    def submit(self, job: str, *options: str) -> str:
        """`alignlaunch k8s JOB`; returns the handle."""
        return self.call("k8s", job, "--cluster", "lab", "--no-data-check", *options).stdout.strip()

    def refused(self, job: str, *options: str, code: int = 3) -> str:
        """A submission that fails; returns what was said."""
        done = self.call("k8s", job, "--cluster", "lab", "--no-data-check", *options, code=code)
        assert done.stdout == ""
        return done.stderr

    def until(self, run: str, *states: str, reason: str = "", timeout: float = 120) -> dict[str, Any]:
        """Until the run has one of these states, and these words in its reason."""
        found: dict[str, Any] = {}

        def arrived() -> bool:
            found.update(self.status(run))
            return found["state"] in states and reason in found["reason"]

        self.cluster.wait(arrived, lambda: f"{found['state']}: {found['reason']}", timeout)
        return found
