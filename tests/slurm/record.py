"""Record what a Slurm prints of jobs that end in every way: `python -m tests.slurm.record installed trixie forky`.

Into recordings/slurm-VERSION/, in the form that its README tells, for what alignlaunch asks: answers of squeue, sacct,
sinfo and sbatch, during the jobs and after. A folder that is there is not touched; root.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from alignlaunch.launchers.backends.slurm import client

from .cluster import debian
from .cluster.private_slurm import PrivateSlurm
from .recorded import FOLDER

#: name → script and sbatch's options.
JOBS = {
    "done": ("true", ["-N2"]),
    "failed": ("exit 3", []),
    "termself": ("kill -TERM $$", []),
    "segv": ("kill -SEGV $$", []),
    "a|b c": ("true", []),
    "running": ("sleep 600", []),
    "cancelrun": ("sleep 600", []),
    "bigpending": ("true", ["-N2", "--exclusive"]),
    "held": ("true", ["--hold"]),
    "late": ("sleep 600", ["--partition=short"]),
    "arr": ("sleep 600", ["--array=0-2%1", "--hold"]),
}
REFUSED = {
    "constraint": ["--constraint=zz"],
    "partition": ["--partition=nope"],
    "nodelist": ["--nodelist=zz"],
    "account": ["--account=nobody"],
    "qos": ["--qos=nope"],
    "time": ["--time=soon"],
    "nodes": ["--test-only", "-N9"],
}


class Recorder:
    """Runs commands on a Slurm and keeps what they print."""

    def __init__(self, slurm: PrivateSlurm, folder: Path) -> None:
        self._slurm, self._folder = slurm, folder
        folder.mkdir()

    def record(self, name: str, *argv: str) -> str:
        done = self._slurm.run(*argv, check=False, cwd=self._slurm.root)
        text = f"$ {' '.join(argv)}\n{done.stdout}"
        if done.stderr or done.returncode:
            text += f"--- stderr, exit {done.returncode}\n{done.stderr}"
        path = self._folder / f"{name}.txt"
        path.write_text(text.replace(str(self._slurm.root), "/shared"), encoding="utf-8")
        return done.stdout


def record(programs: Path | None) -> None:
    root = Path(tempfile.mkdtemp(prefix="record-"))
    with PrivateSlurm(root, accounting=True, programs=programs) as slurm:
        version = slurm.run("squeue", "--version").stdout.split()[-1]
        folder = FOLDER / f"alignlaunch-{version}"
        if folder.exists():
            print(f"{folder} is there already")  # noqa: T201 - a command that a person calls
            return
        recorder = Recorder(slurm, folder)
        ids = []
        for name, (script, options) in JOBS.items():
            path = root / f"{name}.sh"
            path.write_text(f"#!/bin/bash\n{script}\n")
            said = slurm.run("sbatch", f"--job-name={name}", "--output=/dev/null", *options, str(path)).stdout
            ids.append(said.split()[-1])
        numbers = dict(zip(JOBS, ids, strict=True))
        slurm.wait_state(numbers["running"], "RUNNING")
        slurm.wait_state(numbers["cancelrun"], "RUNNING")
        slurm.run("scancel", numbers["cancelrun"], numbers["held"])
        time.sleep(8)
        for moment in ("during", "later", "requeued"):
            recorder.record(f"squeue-{moment}", *client.squeue_command(ids))
            recorder.record(f"sacct-{moment}", *client.sacct_command(ids))
            if moment == "during":
                slurm.wait_state(numbers["late"], "TIMEOUT", timeout=180)
                time.sleep(5)
            if moment == "later":
                slurm.run("scontrol", "requeue", numbers["late"])
                time.sleep(3)
        recorder.record("sinfo", *client.SINFO)
        recorder.record("scontrol-running", "scontrol", "show", "job", numbers["running"])
        recorder.record("squeue-unknown", *client.squeue_command(["999999"]))
        script = str(root / "done.sh")
        recorder.record("sbatch-ok", "sbatch", "--hold", script)
        for name, options in REFUSED.items():
            recorder.record(f"sbatch-bad-{name}", "sbatch", *options, script)


if __name__ == "__main__":
    for which in sys.argv[1:]:
        record(None if which == "installed" else debian.unpack(which))
