"""A rank that hangs is named, the stacks of all are kept, and the attempt ends; one that is slow is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignlaunch.train import finish
from tests.support.matrix import matrix

from .conftest import environment, launcher, write_job

#: The entrypoint, in which a rank hangs after some steps.
PROGRAM = """
import os, re, sys, time
from pathlib import Path
from alignlaunch.train import __main__
from alignlaunch.train.stages import finite

def {how}():
    {body}

def training_step(self, *args, **kwargs):
    if self.state.global_step == {step} and os.environ.get("RANK", "0") == "{rank}":
        {how}()
    return before(self, *args, **kwargs)

before = finite.FiniteTrainer.training_step
finite.FiniteTrainer.training_step = training_step
__main__.main()
"""
#: Python code that keeps a rank from going on.
LOOPS = "while True: pass"
#: In C, with the GIL: no thread of this process runs Python any more.
KEEPS_GIL = 're.match("(a+)+$", "a" * 64 + "b")'
SLEEPS = "time.sleep(1000)"
IS_STOPPED = "os.kill(os.getpid(), 19)"
#: Seconds without progress after which these runs are ended. They are for a busy machine of two cores.
TIMEOUT = 6


def hangs(workplace: Path, name: str, body: str, *, nproc: int, rank: int, step: int = 5) -> tuple[int, str, float]:
    """A run in which a rank hangs. Returns its exit code, its log, and the seconds from the hang to its end."""
    program = workplace / f"{name}.py"
    program.write_text(PROGRAM.format(how="stuck_here", body=body, rank=rank, step=step))
    job = write_job(workplace, name, hang_timeout=TIMEOUT, train={"max_steps": 100_000, "save_strategy": "no"})
    command = [*launcher(nproc), str(program), str(job)] if nproc == 1 else _torchrun(nproc, program, job)
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=workplace,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            assert run.stdout is not None
            said, begin = "", 0.0
            for line in run.stdout:
                said += line
                if line.startswith(f"step {step}/"):
                    begin = time.monotonic()
            code = run.wait(60)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    return code, said, time.monotonic() - begin


def _torchrun(nproc: int, program: Path, job: Path) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}", str(program), str(job)]


def stacks(output_dir: Path) -> dict[int, str]:
    """The reports of the one hang, by rank."""
    (folder,) = (output_dir / "stacks").iterdir()
    return {int(path.stem.partition("-")[2]): path.read_text() for path in folder.glob("rank-*.txt")}


@pytest.mark.parametrize(
    ("name", "body", "nproc"),
    [
        matrix("loops", LOOPS, 2),
        ("stopped", IS_STOPPED, 2),
        ("keeps-gil", KEEPS_GIL, 1),
        matrix("sleeps", SLEEPS, 1),
        matrix("keeps-gil-of-two", KEEPS_GIL, 2),
        matrix("stopped-alone", IS_STOPPED, 1),
        matrix("loops-alone", LOOPS, 1),
    ],
)
def test_it_is_named_and_ended(name: str, body: str, nproc: int, workplace: Path) -> None:
    guilty = nproc - 1
    code, said, seconds = hangs(workplace, f"hang-{name}", body, nproc=nproc, rank=guilty)
    assert code == (finish.HUNG if nproc == 1 else 1), said
    (line,) = [line for line in said.splitlines() if "alignlaunch: hang: " in line]
    assert f"hang: rank {guilty} on " in line
    assert "no progress after step 5 (training) for " in line
    assert f"The stacks of {nproc} of {nproc} ranks: " in line
    assert TIMEOUT <= seconds < TIMEOUT + 40
    found = stacks(workplace / "out" / f"hang-{name}")
    assert sorted(found) == list(range(nproc))
    assert "in stuck_here" in found[guilty]
    if nproc > 1:
        assert "in stuck_here" not in found[0]
        assert f"rank      : {guilty} " in said, "torchrun, too, names it as the first"


def test_a_suspended_run_goes_on(workplace: Path) -> None:
    """As `scontrol suspend` and `resume`: the time in between counts for nobody, and nothing asks it to stop."""
    train = {"max_steps": 30, "save_strategy": "no"}
    job = write_job(workplace, "suspended", hang_timeout=TIMEOUT, train=train)
    with subprocess.Popen(
        [sys.executable, "-m", "alignlaunch.train", str(job)],
        cwd=workplace,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        said = ""
        for line in run.stdout:
            said += line
            if line.startswith("step 6/"):
                os.killpg(run.pid, signal.SIGSTOP)
                time.sleep(TIMEOUT + 3)
                os.killpg(run.pid, signal.SIGCONT)
    assert run.returncode == 0, said
    assert not (workplace / "out/suspended/stacks").exists()
