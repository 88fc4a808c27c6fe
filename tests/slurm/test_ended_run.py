"""A run of tests that is ended leaves no daemon of its Slurm, whoever ends it and how."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.matrix import matrix
from tests.support.waiting import until

from .conftest import slurm_ready
from .test_private_slurm import processes_of

ROOT = Path(__file__).parents[2]
A_TEST = """
import time
from tests.slurm.conftest import *

def test_for_long(slurm_acct):
    job = slurm_acct.submit("srun sleep 600", "--output=/dev/null")
    slurm_acct.wait_state(job, "RUNNING")
    open({ready!r}, "w").write(str(slurm_acct.root))
    time.sleep(600)
"""


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, matrix(signal.SIGKILL), matrix(signal.SIGINT)])
def test_nothing_outlives_the_run(tmp_path: Path, workers: str, ending: signal.Signals) -> None:
    slurm_ready(accounting=True)
    ready = tmp_path / "ready"
    (tmp_path / "test_a.py").write_text(A_TEST.format(ready=str(ready)))
    options = ["-q", f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={tmp_path}", workers]
    plugins = ["-p", "tests.conftest", "-p", "no:cacheprovider"]
    # A shell's background job is born with SIGINT ignored.
    run = subprocess.Popen(
        [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "pytest",
            *options,
            *plugins,
            str(tmp_path / "test_a.py"),
        ],
        cwd=ROOT,
        stdout=(tmp_path / "said").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        until(lambda: ready.exists() or run.poll() is not None)
        assert ready.exists(), (tmp_path / "said").read_text()
        root = Path(ready.read_text())
        assert processes_of(root)
        run.send_signal(ending)
        until(lambda: not processes_of(root), 120)  # PrivateSlurm.stop gives each of four daemons 15 s
    finally:
        run.kill()
        run.wait()
