"""On a real Slurm a run that fails is tried again if that may help, without a node that is at fault, and else not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from .cli import Login
from .interrupted import losses, same_as, until_step, write_job


@pytest.fixture(scope="module")
def login(trainer: Login) -> Login:
    return trainer


#: Runs in every python of the job: the first process that trains on the node n1 reports a faulty GPU, and dies.
FAULTY_GPU = """
import os, sys
if os.environ.get("SLURMD_NODENAME") == "n1" and "LOCAL_RANK" in os.environ:
    print("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", file=sys.stderr, flush=True)
    os._exit(1)
"""


def attempts(login: Login, handle: str) -> list[dict[str, Any]]:
    folder = Path(login.status(handle)["run_dir"])
    return [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]


def agents(name: str) -> list[psutil.Process]:
    """The launchers of a run on this machine, one for each node."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "alignlaunch.train.torchrun" in words and any(f"/{name}-" in word for word in words):
            found.append(process)
    return found


@pytest.mark.matrix  # so does bench.faults
def test_a_launcher_that_is_killed_costs_the_steps_since_the_last_checkpoint(
    login: Login, undisturbed: list[tuple[int, float]]
) -> None:
    output = write_job(login, "lost")
    handle = login.submit("lost")
    until_step(output, 7)
    login.call("save", handle)
    agents("lost")[-1].send_signal(signal.SIGKILL)
    login.call("wait", handle)
    log = login.call("logs", handle).stdout
    assert "tried again: killed: it goes on from step" in log
    assert log.count("resuming from") == 1
    assert losses(output) == same_as(undisturbed)
    assert [(one["cause"], one["again"]) for one in attempts(login, handle)] == [("killed", True)]


def test_bad_data_are_not_tried_again(login: Login) -> None:
    data = login.folder / "spoilt.jsonl"
    data.write_bytes((login.folder / "sft.jsonl").read_bytes())
    notify = {"command": ["sh", "-c", "cat > told-hopeless"]}
    write_job(login, "hopeless", data={"train": [data.name]}, slurm={"extra": ["--hold"]}, notify=notify)
    handle = login.submit("hopeless")
    data.write_text("this is no record\n")
    login.slurm.run("scontrol", "release", handle.rpartition("/")[2])
    login.call("wait", handle, code=1)
    (only,) = attempts(login, handle)
    assert (only["cause"], only["again"]) == ("data", False)
    assert "not tried again: data: another attempt would end in the same way" in login.call("logs", handle).stdout
    told = json.loads((login.folder / "told-hopeless").read_text())
    assert (told["state"], told["cause"]) == ("failed", "data")
    (attempt,) = login.status(handle)["attempts"]
    assert (attempt["cause"], attempt["nodes"], attempt["then"]) == ("data", "n[1-2]", "not tried again")


def test_a_faulty_node_is_left_out_now_and_by_later_submissions(login: Login) -> None:
    (login.folder / "faulty").mkdir(exist_ok=True)
    (login.folder / "faulty/sitecustomize.py").write_text(FAULTY_GPU)
    env = {"PYTHONPATH": f"{login.folder}/faulty:{os.environ.get('PYTHONPATH', '')}"}
    write_job(login, "faulty", nnodes=1, env=env)
    handle = login.submit("faulty")
    login.call("wait", handle)
    log = login.call("logs", handle).stdout
    assert "tried again: xid: it may do better" in log
    assert "without node n1" in log
    assert "n1" in login.call("nodes").stdout
    write_job(login, "later", nnodes=1, train={"max_steps": 2})
    said = login.call("slurm", "later.yaml", "--cluster", "private", "--wait").stderr
    assert "without n1" in said
    assert "head n2:" in login.call("logs", "later").stdout
    login.call("nodes", "--forget", "n1")
    assert "n1" not in login.call("nodes").stdout


def test_a_faulty_node_that_cannot_be_spared_is_not_left_out(login: Login) -> None:
    """Slurm would keep the job pending for ever."""
    (login.folder / "once").mkdir()
    once = f"not os.path.exists({str(login.folder / 'once/mark')!r})"
    mark = f"    open({str(login.folder / 'once/mark')!r}, 'w').close()\n    print("
    script = FAULTY_GPU.replace("if os", f"if {once} and os").replace("    print(", mark)
    (login.folder / "once/sitecustomize.py").write_text(script)
    env = {"PYTHONPATH": f"{login.folder}/once:{os.environ.get('PYTHONPATH', '')}"}
    write_job(login, "needed", env=env)
    handle = login.submit("needed")
    login.call("wait", handle)
    log = login.call("logs", handle).stdout
    assert "n1 is not left out: " in log
    assert "Requested node configuration is not available" in log
    login.call("nodes", "--forget", "n1")
