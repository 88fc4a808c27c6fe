"""The first collective of a run: two real processes, and one that does not answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from alignlaunch.train.preflight import collectives
from alignlaunch.train.processes.rendezvous import Rendezvous

ROOT = Path(__file__).parents[3]
#: As two nodes of two processes, though all are here.
PROGRAM = """
    import os, sys, time
    from dataclasses import replace
    from alignlaunch.train.preflight import collectives
    from alignlaunch.train.processes import rendezvous
    place = replace(rendezvous.read(os.environ), local_world_size=int(sys.argv[1]))
    rendezvous.initialise(place, 60)
    if place.rank == int(sys.argv[2]):
        time.sleep(60)
    # One write: the processes share the pipe, and python may be unbuffered.
    sys.stdout.write(collectives.check(place, float(sys.argv[3])) + "\\n")
"""


def torchrun(folder: Path, count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(program), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_all_processes_answer(tmp_path: Path) -> None:
    done = torchrun(tmp_path, 4, "2", "-1", "60")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(re.match(r"all-reduce: \d+\.\d\d GB/s over all, \d+\.\d\d within a node", line) for line in lines)


def test_a_process_that_does_not_answer_ends_the_others_with_words(tmp_path: Path) -> None:
    done = torchrun(tmp_path, 2, "2", "1", "3")
    assert done.returncode != 0
    assert "rank 0 on " in done.stderr
    assert "the all-reduce over all 2 processes did not end in 3 s" in done.stderr
    assert "remedy: " in done.stderr


@pytest.mark.parametrize(("third", "said"), [(9.0, False), (2.0, True)])
def test_a_slow_node_is_named(third: float, said: bool) -> None:
    place = Rendezvous(
        rank=0,
        local_rank=0,
        world_size=6,
        local_world_size=2,
        master_addr="h",
        master_port=1,
        dialect="torchrun",
        restart_count=0,
        run_id="",
        restarts_uncounted=False,
    )
    seen = [(f"gpu-{rank // 2}", third if rank // 2 == 2 else 10.0) for rank in range(6)]
    line = collectives._words(seen, place, 1.0)
    assert line.startswith("all-reduce: 1.00 GB/s over all, 10.00 within a node")
    assert ("warning: slow within node 2 (gpu-2) 2.00" in line) is said
