"""The alignlaunch command against a private Slurm, as a user on its login node would call it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .private_slurm import PrivateSlurm

ALIGNLAUNCH = [sys.executable, "-m", "alignlaunch.launchers.cli"]


@dataclass
class Login:
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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running."""
        return subprocess.Popen(
            [*ALIGNLAUNCH, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """The command, ended; its exit code must be `code`, and no traceback may be seen."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=600)
        done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        assert "Traceback" not in stderr, stderr
        assert code is None or done.returncode == code, f"{arguments}: exit {done.returncode}\n{stdout}\n{stderr}"
        return done

    def submit(self, name: str, *options: str) -> str:
        """`alignlaunch slurm NAME.yaml`; returns the handle."""
        return self.call("slurm", f"{name}.yaml", "--cluster", "private", *options).stdout.strip()

    def status(self, run: str) -> dict[str, Any]:
        """`alignlaunch status RUN --json`."""
        shown = json.loads(self.call("status", run, "--json").stdout)
        assert len(shown) == 1
        status: dict[str, Any] = shown[0]
        return status
