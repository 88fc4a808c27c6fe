"""The alignlaunch command against a private Slurm, as a user on its login node would call it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import Command

from .cluster.private_slurm import PrivateSlurm


@dataclass
class Login(Command):
    """A user's folder with job files, a cluster profile named `private`, and a home of its own."""

    slurm: PrivateSlurm
    folder: Path
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clusters = self.folder / "config/alignlaunch/clusters"
        clusters.mkdir(parents=True, exist_ok=True)
        (clusters / "private.yaml").write_text(yaml.safe_dump({"device": "cpu", "python": self.python}))
        self.env = {
            **self.slurm.env,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "HF_HUB_OFFLINE": "1",
        }

    def write_job(self, name: str, **keys: Any) -> Path:
        """A job file; `keys` over a small two-node job."""
        job = {
            "name": name,
            "stage": "sft",
            "model": "model",
            "data": {"train": ["sft.jsonl"]},
            "nnodes": 2,
            "nproc_per_node": 1,
            "zero": 0,
            "time": "00:10:00",
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job | keys))
        return path

    def submit(self, name: str, *options: str) -> str:
        """`alignlaunch slurm NAME.yaml`; returns the handle."""
        return self.call("slurm", f"{name}.yaml", "--cluster", "private", *options).stdout.strip()


def stub_login(slurm: PrivateSlurm, folder: Path, script: str) -> Login:
    """A login whose jobs run a bash script in place of python, which `launcher: direct` calls."""
    stub = folder / "stub"
    stub.write_text(script)
    stub.chmod(0o755)
    return Login(slurm, folder, python=str(stub))
