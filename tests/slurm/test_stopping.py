"""On a real Slurm a run saves and goes on by itself: at its time limit, after preemption, after scancel by hand."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.matrix import matrix
from tests.support.tiny import TRAIN
from tests.support.waiting import until

from .cli import Login
from .interrupted import checkpoints, losses, same_as, until_step, write_job


@pytest.fixture(scope="module")
def login(trainer: Login) -> Login:
    return trainer


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("launcher", ["torchrun", matrix("deepspeed"), matrix("direct")])
def test_near_its_time_limit_a_run_saves_is_requeued_and_ends_as_if_nothing_had_been(
    login: Login,
    undisturbed: list[tuple[int, float]],
    launcher: str,
    silent: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice. Slurm sends the batch shell what scancel sends here; test_a_real_time_limit waits for it."""
    name = f"limited-{launcher}"
    told = {"webhook": "HOOK", "command": ["sh", "-c", f"cat >> told-{name}; echo >> told-{name}"]}
    output = write_job(login, name, launcher=launcher, secrets=["HOOK"], notify=told)
    monkeypatch.setitem(login.env, "HOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/s3cr3t")
    handle = login.submit(name)
    waiter = login.start("wait", handle)
    for step in (7, 35):
        until_step(output, step)
        login.slurm.run("scancel", "--batch", "--signal=USR2", handle.rpartition("/")[2])
        time.sleep(1)
    _, said = waiter.communicate(timeout=200)
    log = login.call("logs", handle).stdout
    assert waiter.returncode == 0, said + log
    assert log.count("resuming from") == 2
    assert log.count("Traceback") == 0
    assert losses(output) == same_as(undisturbed)
    (status,) = json.loads(login.call("status", handle, "--goodput", "--json").stdout)
    assert status["state"] == "COMPLETED"
    assert [(one["cause"], one["nodes"]) for one in status["attempts"]] == [
        *[("stopped", "n[1-2]")] * 2,
        ("completed", "n[1-2]"),
    ]
    parts = status["goodput"]["seconds"]
    assert sum(parts.values()) == pytest.approx(status["goodput"]["wall"])
    assert parts["lost steps"] == 0
    # Slurm lets a requeued job wait, which is no fault of the run.
    assert min(parts["queue"], parts["restarts"], parts["training"]) > 0

    messages = [json.loads(line) for line in (login.folder / f"told-{name}").read_text().splitlines() if line]
    again = ["stopped and requeued", "resumed"]
    assert [one["state"] for one in messages] == ["started", *again, *again, "completed"]
    assert {one["id"] for one in messages} == {Path(status["run_dir"]).name}
    assert "notify: webhook: no answer after 10 s; the run goes on" in log
    assert "s3cr3t" not in log


def test_it_saves_when_asked_and_is_requeued_no_more_often_than_it_may_be(login: Login) -> None:
    output = write_job(login, "bounded", launcher="direct", slurm={"max_requeues": 0})
    handle = login.submit("bounded")
    until_step(output, 7)
    saved = Path(login.call("save", handle).stdout.strip())
    assert saved.parent == output
    assert (saved / "manifest.json").is_file()
    assert login.status(handle)["state"] == "RUNNING"
    login.slurm.run("scancel", "--batch", "--signal=USR2", handle.rpartition("/")[2])
    login.call("wait", handle, code=75)
    assert login.status(handle)["state"] == "FAILED"
    assert len(checkpoints(output)) == 2
    assert not list(output.glob("*.safetensors"))
    login.call("slurm", "bounded.yaml", "--cluster", "private", "--wait")  # submitted again it goes on
    assert "resuming from" in login.call("logs", "bounded").stdout


@pytest.mark.matrix
def test_a_person_stops_it(login: Login) -> None:
    """It is not requeued: who stopped it decides when it goes on."""
    output = write_job(login, "stopped")
    handle = login.submit("stopped")
    until_step(output, 7)
    login.call("save", handle, "--stop")
    login.call("wait", handle, code=75)
    assert len(checkpoints(output)) == 1
    refused = login.call("save", handle, code=2)
    assert "only a running job can save" in refused.stderr


@pytest.mark.parametrize("launcher", ["torchrun", matrix("deepspeed"), matrix("direct")])
def test_a_cancelled_run_saves_first(login: Login, launcher: str) -> None:
    output = write_job(login, f"cancelled-{launcher}", launcher=launcher)
    handle = login.submit(f"cancelled-{launcher}")
    until_step(output, 7)
    login.call("cancel", handle)
    login.call("wait", handle, code=143)
    assert login.status(handle)["state"] == "CANCELLED"
    assert len(checkpoints(output)) == 1, login.call("logs", handle).stdout


def test_a_preempted_run_saves_first_and_goes_on(login: Login, undisturbed: list[tuple[int, float]]) -> None:
    output = write_job(login, "preempted", slurm={"partition": "gpu"})
    handle = login.submit("preempted")
    until_step(output, 7)
    login.slurm.run("sbatch", "--partition=prio", "--nodes=2", "--exclusive", "--wrap=sleep 1", "--output=/dev/null")
    login.call("wait", handle)
    log = login.call("logs", handle).stdout
    assert log.count("resuming from") == 1, log
    assert losses(output) == same_as(undisturbed)


@pytest.mark.matrix
def test_a_real_time_limit(login: Login) -> None:
    output = write_job(login, "limit", time="00:02:00", slurm={"signal_seconds": 70}, train=TRAIN | {"max_steps": 2000})
    handle = login.submit("limit")
    until_step(output, 1)
    until(lambda: login.status(handle)["state"] == "PENDING", 180)
    assert len(checkpoints(output)) >= 1
    login.call("cancel", handle)
