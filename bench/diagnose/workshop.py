"""Where faults are provoked: a scratch folder with a tiny model, and processes whose lines go into one log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.tiny import make_model, write_data
from tests.train.conftest import ROOT, write_job, zero_json

Command = list[str]


class Workshop:
    """A scratch folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_model(folder / "model")
        write_data(folder)
        self.zero("zero2.json")

    def zero(self, name: str, **changes: Any) -> str:
        """A DeepSpeed JSON; `changes` over an ordinary one."""
        (self.folder / name).write_text(json.dumps(zero_json(2) | changes))
        return name

    def program(self, name: str, text: str) -> str:
        """A Python file of its own."""
        (self.folder / name).write_text(text)
        return name

    def train(self, name: str, *options: str, processes: int = 2, **job: Any) -> Command:
        """torchrun with our entrypoint on a tiny job."""
        path = write_job(self.folder, name, **job)
        arguments = ["-m", "alignlaunch.train", str(path.relative_to(self.folder)), *options]
        return torchrun(*arguments, processes=processes, module="alignlaunch.train.torchrun")

    def render(self, name: str, **keys: Any) -> None:
        """launch/NAME/bash of a tiny job."""
        (self.folder / "clusters").mkdir(exist_ok=True)
        (self.folder / "clusters/cpu.yaml").write_text("device: cpu\n")
        job = {
            "name": name,
            "stage": "sft",
            "model": "model",
            "data": {"train": ["sft.jsonl"]},
            "zero": 0,
            "lora": None,
        }
        (self.folder / f"{name}.yaml").write_text(json.dumps(job | keys))
        command = [sys.executable, "-m", "alignlaunch.launchers.cli", "render", f"{name}.yaml", "--cluster", "cpu"]
        subprocess.run([*command, "--target", "bash"], cwd=self.folder, check=True, capture_output=True)

    def run(self, *commands: Command, seconds: float = 120, **env: str) -> str:
        """Run commands side by side until all have ended; their lines as they came, as `srun --label` has them.

        Each may begin with NAME=VALUE words, for itself alone. What runs longer than `seconds` is killed.
        """
        lines: list[str] = []
        lock = threading.Lock()
        base = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "PET_", "TORCH"))}
        base |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        base |= {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank${rank}]: ", "CUDA_VISIBLE_DEVICES": "", **env}
        base |= {name: os.environ[name] for name in ("TORCH_EXTENSIONS_DIR",) if name in os.environ}

        def one(task: int, command: Command) -> None:
            own = ["env", *command]
            process = subprocess.Popen(
                ["timeout", "--signal=KILL", str(seconds), *own],
                cwd=self.folder,
                env=base,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            for line in process.stdout or ():
                with lock:
                    lines.append(f"{task}: {line}" if len(commands) > 1 else line)
            process.wait()

        threads = [threading.Thread(target=one, args=task) for task in enumerate(commands)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "".join(lines).replace(str(self.folder), "/scratch").replace(sys.prefix, "/venv")


def torchrun(
    *arguments: str, processes: int = 2, options: str = "--standalone", module: str = "torch.distributed.run"
) -> Command:
    """torchrun with the options of our scripts: every line behind its rank. module: ours starts our entrypoint only."""
    launcher = [sys.executable, "-m", module, "--tee", "3", f"--nproc-per-node={processes}"]
    return [*launcher, *options.split(), *arguments]


def static(node_rank: int, port: int, *arguments: str, address: str = "127.0.0.1", timeout: int = 10) -> Command:
    """One of two nodes with a static rendezvous, one process each."""
    options = f"--nnodes=2 --node-rank={node_rank} --master-addr={address} --master-port={port}"
    return torchrun(*arguments, processes=1, options=f"{options} --rdzv-conf timeout={timeout}")
