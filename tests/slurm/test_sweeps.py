"""A sweep on a real Slurm is one throttled array: each point is a run, and its name means all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import top
from tests.support.looking import look
from tests.support.tiny import TRAIN, make_model, write_data
from tests.support.waiting import until

from .cli import Login, stub_login
from .cluster.private_slurm import PrivateSlurm
from .conftest import on_two_versions
from .interrupted import losses

# `launcher: direct` calls it as python; what it does is told by the job's environment, which is what the sweep is over.
STUB = """#!/bin/bash
[[ "$*" != *alignlaunch.launchers.retry* ]] || exit 1 # the batch script asks: no further attempt
echo "doing $ACT"
touch "$RUN_DIR/started"
case "$ACT" in sleep*) sleep 300 ;; wait*) until [[ -e go ]]; do sleep 0.2; done ;; *) exit "${ACT#do}" ;; esac
"""


@pytest.fixture
def login(slurm: PrivateSlurm, tmp_path: Path) -> Login:
    return stub_login(slurm, tmp_path, STUB)


def write_sweep(login: Login, name: str, acts: list[str], most: int = 2) -> None:
    points = [{"env.ACT": act} for act in acts]
    sweep = {"points": points, "max_parallel": most}
    login.write_job(name, launcher="direct", nnodes=1, preflight_timeout=0, sweep=sweep)


def states(login: Login, run: str) -> list[tuple[str, int | None]]:
    runs = json.loads(login.call("status", run, "--json").stdout)
    return [(one["state"], one["exit_code"]) for one in runs]


@on_two_versions
def test_six_points_two_at_once_of_which_one_fails(login: Login) -> None:
    write_sweep(login, "six", ["wait1", "wait2", "do7", "do0", "wait3", "wait4"])
    handles = login.call("slurm", "six.yaml", "--cluster", "private").stdout.split()
    whole = handles[0].rpartition("_")[0]
    assert handles == [f"{whole}_{index}" for index in range(6)]
    until(lambda: [state for state, _ in states(login, "six")][:2] == ["RUNNING"] * 2)
    found = json.loads(login.call("status", "six", "--json").stdout)
    assert [one["state"] for one in found] == ["RUNNING"] * 2 + ["PENDING"] * 4
    assert {one["reason"] for one in found[2:]} <= {"JobArrayTaskLimit", "Resources", "Priority", ""}
    assert [one["name"] for one in found] == [
        f"six+{label}" for label in ("ACT-wait1", "ACT-wait2", "ACT-do7", "ACT-do0", "ACT-wait3", "ACT-wait4")
    ]
    until(lambda: Path(found[1]["run_dir"], "started").exists())
    assert login.call("logs", handles[1]).stdout.strip().endswith("doing wait2")
    assert states(login, "six+ACT-wait2") == states(login, handles[1])
    with top.top(login, "six+*") as shown:
        newest_first = [*["PENDING"] * 4, *["RUNNING"] * 2]
        shown.until(lambda screen: [*top.states(screen).values()] == newest_first)
        top.cancel(shown, "six+ACT-wait4", handles[5])  # one that has not begun
        assert [*top.states(shown.screen()).values()].count("CANCELLED") == 1
    (login.folder / "go").touch()
    login.call("wait", "six", code=7)
    ended = [("COMPLETED", 0), ("COMPLETED", 0), ("FAILED", 7), ("COMPLETED", 0), ("COMPLETED", 0), ("CANCELLED", None)]
    assert states(login, "six") == ended
    assert states(login, whole) == ended, "the array's own number means all of it"
    # A submission again of one point alone, by the same bytes.
    again = login.call("retry", handles[2]).stdout.split()
    assert [handle.rpartition("_")[2] for handle in again] == ["2"]
    login.call("wait", again[0], code=7)
    assert login.call("check").returncode == 0
    # Whoever has lost the record has the handle.
    (login.folder / "state/alignlaunch/runs.sqlite").unlink()
    assert states(login, handles[2]) == [("FAILED", 7)]
    assert "doing do7" in login.call("logs", handles[2]).stdout


def test_the_whole_is_cancelled(login: Login) -> None:
    write_sweep(login, "ended", ["sleep1", "sleep2", "sleep3"])
    login.submit("ended")
    until(lambda: [state for state, _ in states(login, "ended")].count("RUNNING") == 2)
    login.call("cancel", "ended")
    login.call("wait", "ended", code=None)
    assert {state for state, _ in states(login, "ended")} == {"CANCELLED"}


def test_points_that_are_preempted_go_on(slurm: PrivateSlurm, tmp_path: Path) -> None:
    """A real model at six points, two at once: one fails by its own mistake, one is requeued in the middle."""
    login = Login(slurm, tmp_path)
    make_model(tmp_path / "model")
    write_data(tmp_path)
    train = TRAIN | {"max_steps": 30, "save_steps": 5, "logging_steps": 1, "save_strategy": "steps"}
    points: list[dict[str, Any]] = [
        {"train.learning_rate": rate, "train.seed": seed} for rate in (1e-3, 2e-3) for seed in (1, 2)
    ]
    points += [{"model": "nowhere-to-be-found"}, {"train.learning_rate": 0.0}]
    login.write_job("swept", nnodes=1, lora=None, train=train, sweep={"points": points, "max_parallel": 2})
    handles = login.call("slurm", "swept.yaml", "--cluster", "private").stdout.split()
    first = json.loads(login.call("status", handles[0], "--json").stdout)[0]
    output = Path(first["output_dir"])
    until(lambda: (output / "metrics.jsonl").exists() and bool(losses(output)[6:]), 240)
    slurm.run("scontrol", "requeue", handles[0].rpartition("/")[2])
    with top.top(login, "swept+*") as shown:  # name, state, attempt, step
        shown.until(lambda screen: top.rows(screen).get(first["name"], [])[:2] == ["RUNNING", "2"], 240)
        shown.until(lambda screen: top.rows(screen)[first["name"]][2].endswith("/30"), 240)
    login.call("wait", "swept", code=None)
    found = [state for state, _ in states(login, "swept")]
    assert found == ["COMPLETED"] * 4 + ["FAILED", "COMPLETED"], login.call("logs", handles[0]).stdout
    assert login.call("logs", handles[0]).stdout.count("resuming from") == 1
    outputs = [Path(one["output_dir"]) for one in json.loads(login.call("status", "swept", "--json").stdout)]
    curves = {index: losses(folder) for index, folder in enumerate(outputs) if index != 4}
    assert all([step for step, _ in curve] == [*range(1, 31)] for curve in curves.values())
    assert len({curve[-1] for curve in curves.values()}) == 5
    look(login, tmp_path, "swept", outputs=True)
    login.call("export", handles[5], "-o", str(tmp_path / "exported"))
    assert (tmp_path / "exported/model.safetensors").is_file()
    assert "nowhere-to-be-found" in login.call("logs", handles[4]).stdout


def test_what_takes_the_best_point_begins_when_all_have_ended(login: Login) -> None:
    """Also if one failed; what needs them all does not."""
    base = {"stage": "sft", "data": {"train": ["hub/data"]}, "nproc_per_node": 1, "zero": 0, "launcher": "direct"}
    base |= {"preflight_timeout": 0, "time": "00:10:00"}
    sweep = {"points": [{"env.ACT": act} for act in ("do0", "do7", "wait1")], "max_parallel": 2}
    jobs = {
        "swept": {**base, "model": "hub/model", "sweep": sweep},
        "best": {**base, "model": "${swept.best(loss).output}", "env": {"ACT": "do0"}},
        "all": {**base, "model": "hub/model", "after": ["swept"], "env": {"ACT": "do0"}},
    }
    (login.folder / "chain.yaml").write_text(yaml.safe_dump({"name": "chain", "jobs": jobs}, sort_keys=False))
    handles = login.call("slurm", "chain.yaml", "--cluster", "private").stdout.split()
    assert [handle.rpartition("_")[2] for handle in handles[:3]] == ["0", "1", "2"]
    until(lambda: [state for state, _ in states(login, "chain")][1:3] == ["FAILED", "RUNNING"])
    assert states(login, "chain")[3][0] == "PENDING"
    (login.folder / "go").touch()
    login.call("wait", "chain", code=7)
    assert [state for state, _ in states(login, "chain")] == ["COMPLETED", "FAILED", *["COMPLETED"] * 2, "CANCELLED"]
