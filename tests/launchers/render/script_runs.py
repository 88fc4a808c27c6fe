"""Rendered scripts, run by the real bash; in the place of python stands a stub that tells what it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.render.render import targets
from tests.support.hostile import as_yaml

STUB = """\
#!{python}
import json, os, sys, time
with open({out!r} + os.environ.get("SLURM_PROCID", ""), "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}, file)
code = int(os.environ.get("STUB_CODE_" + os.environ.get("SLURM_PROCID", ""), 0))
while code == 143 and not os.path.getsize(os.environ["TASK_EXIT_CODES"]):
    time.sleep(0.01)  # srun ends a task after another has failed
sys.exit(code)
"""
# Starts one task a node as srun does, stops the others when one fails, and exits with the highest code.
SRUN = """\
#!/bin/bash
while [[ "$1" == --* ]]; do echo "$1" >> "$SRUN_OPTIONS"; shift; done
pids=()
for ((i = 0; i < SLURM_NNODES; i++)); do
    SLURM_NODEID=$i SLURM_PROCID=$i SLURM_LOCALID=0 SLURMD_NODENAME=node$i "$@" &
    pids+=($!)
done
highest=0
for pid in "${pids[@]}"; do
    code=0
    wait "$pid" || code=$?
    if [[ $code -gt $highest ]]; then highest=$code; fi
done
exit "${SRUN_CODE:-$highest}"
"""
SCONTROL = """\
#!/bin/bash
if [[ "$*" == ping ]]; then echo "Slurmctld(primary) at node9 is UP"; exit; fi
[[ "$*" == "show hostnames node[0-1]" ]] || exit 1
printf 'node0\\nnode1\\n'
"""
#: The job was submitted on the last day of November 2026, at this clock's noon.
SQUEUE = """\
#!/bin/bash
[[ "$*" == "--noheader --jobs=123456 --format=%V" ]] || exit 1
echo 2026-11-30T12:00:00
"""


class Place:
    """A job's folder with its rendered scripts and a stub for python."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.folder = folder
        base: dict[str, Any] = {"name": "hostile", "stage": "sft", "model": "m", "data": {"train": ["d"]}, "lora": None}
        (folder / "job.yaml").write_text(as_yaml(base | keys), encoding="utf-8")
        self.job = jobfile.load(folder / "job.yaml")
        for target in targets(self.job):
            where = drift.folder_of(self.job, target)
            drift.write(where, drift.artifacts(self.job, target, where))
        self.python = self._script("python stub", STUB.format(python=sys.executable, out=str(folder / "told")))
        self.bin = folder / "bin"

    def _script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def bash(self, *arguments: str, script: str = "torchrun", **env: str) -> subprocess.CompletedProcess[str]:
        return self._run(["bash", f"launch/hostile/bash/{script}.sh", *arguments], **env)

    def sbatch(self, **env: str) -> subprocess.CompletedProcess[str]:
        self._script("bin/srun", SRUN)
        self._script("bin/scontrol", SCONTROL)
        self._script("bin/squeue", SQUEUE)
        self._script("bin/sbatch", "#!/bin/bash\nexit 1\n")  # no job submits another one
        slurm = {"SLURM_JOB_ID": "123456", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[0-1]"}
        fakes = {"PATH": f"{self.bin}:{os.environ['PATH']}", "SRUN_OPTIONS": str(self.folder / "srun options")}
        return self._run(["bash", "launch/hostile/slurm/job.sbatch"], **{**slurm, **fakes, **env})

    def _run(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**base, "ALIGNLAUNCH_PYTHON": str(self.python), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def told(self, rank: str = "") -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / f"told{rank}").read_text())
        return data
