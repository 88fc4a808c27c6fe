"""How jobs end, are ended, and begin again: what is told of each, whenever one asks, on two versions of Slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.waiting import until

from .cli import Login, stub_login
from .conftest import on_two_versions
from .test_watch import STUB, run_dir, start

pytestmark = on_two_versions


@pytest.fixture(scope="module", params=["accounting", "no accounting"])
def login(request: pytest.FixtureRequest, programs: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Login:
    slurm = request.getfixturevalue("slurm_acct" if request.param == "accounting" else "slurm")
    folder = tmp_path_factory.mktemp("ends") / "50%t and %j"  # Slurm reads such signs in the path of a log
    folder.mkdir()
    return stub_login(slurm, folder, STUB)


def forget(login: Login, handle: str) -> None:
    """Wait until slurmctld has forgotten the job, and lose the record: what is left are the accounts and the folder."""
    job_id = handle.rpartition("/")[2]
    if login.slurm.accounting:
        until(lambda: login.slurm.run("squeue", "--job", job_id, check=False).returncode != 0, 100)


def record(login: Login, handle: str, state: str) -> None:
    """Have the record say that the run was last seen in this state."""
    import sqlite3

    with sqlite3.connect(login.folder / "state/alignlaunch/runs.sqlite") as database:
        (text,) = database.execute("SELECT run FROM runs WHERE handle = ?", (handle,)).fetchone()
        run = json.loads(text)
        run["status"] = {"state": state, "exit_code": None, "reason": "", "nodes": ""}
        database.execute("UPDATE runs SET run = ? WHERE handle = ?", (json.dumps(run), handle))


def told(login: Login, handle: str) -> tuple[str, int | None]:
    status = login.status(handle)
    return status["state"], status["exit_code"]


def test_a_cancelled_job_has_one_code_at_every_moment(login: Login) -> None:
    handle, folder = start(login, "cancelled", env={"ACT": "sleep"})
    login.slurm.run("scancel", handle.rpartition("/")[2])
    seen = set()

    def ended() -> bool:
        state, code = told(login, handle)
        seen.add((state, code))
        return (folder / "exit_code").exists() and state == "CANCELLED"

    until(ended)
    forget(login, handle)
    record(login, handle, "RUNNING")
    assert {code for state, code in seen if state == "CANCELLED"} == {143}
    assert told(login, handle) == ("CANCELLED", 143)
    assert (folder / "exit_code").read_text() == "143\n"
    login.call("wait", handle, code=143)


def test_a_script_ended_by_term_never_looks_well(login: Login) -> None:
    """TERM from whomever: bash by itself would run the EXIT trap with `$?` 0."""
    handle, folder = start(login, "termed", env={"ACT": "sleep"})
    login.slurm.run("scancel", "--full", "--signal=TERM", handle.rpartition("/")[2])
    login.call("wait", handle, code=143)
    assert (folder / "exit_code").read_text() == "143\n"
    assert told(login, handle) == ("FAILED", 143)
    forget(login, handle)
    record(login, handle, "RUNNING")
    assert told(login, handle) == ("FAILED", 143)
    assert "ended well" not in login.call("diagnose", handle).stdout


def test_a_job_cancelled_while_it_waits_has_no_code(login: Login) -> None:
    login.write_job("waits", launcher="direct", slurm={"extra": ["--hold"]})
    handle = login.submit("waits")
    login.call("cancel", handle)
    assert told(login, handle) == ("CANCELLED", None)
    forget(login, handle)
    record(login, handle, "PENDING")
    assert told(login, handle) == ("CANCELLED", None)
    login.call("wait", handle, code=1)


def test_a_job_requeued_after_its_end_is_followed_again(login: Login) -> None:
    handle, folder = start(login, "again", env={"ACT": "sleep"})
    job_id = handle.rpartition("/")[2]
    login.slurm.run("scancel", "--full", "--signal=TERM", job_id)
    login.call("wait", handle, code=143)
    (folder / "started.0").unlink()
    login.slurm.run("scontrol", "requeue", job_id)
    assert login.status(handle)["state"] in ("PENDING", "COMPLETING", "REQUEUED", "RUNNING")
    waiter, follower = login.start("wait", handle), login.start("logs", handle, "-f")
    until((folder / "started.0").exists, 90)
    assert told(login, handle) == ("RUNNING", None)
    assert (waiter.poll(), follower.poll()) == (None, None)
    done = login.call("slurm", "again.yaml", "--cluster", "private", code=2)
    assert f"({handle}, RUNNING), submitted by " in done.stderr  # the output folder is not free
    login.call("cancel", handle)
    assert (waiter.wait(60), follower.wait(60)) == (143, 0)
    assert follower.stdout
    assert follower.stdout.read().count("task 0 on n1: sleep") == 2


def test_a_renamed_job_is_the_same_run(login: Login) -> None:
    login.env["SBATCH_JOB_NAME"] = "from-the-shell"
    try:
        handle, folder = start(login, "renamed", env={"ACT": "sleep"})
    finally:
        del login.env["SBATCH_JOB_NAME"]
    job_id = handle.rpartition("/")[2]
    assert login.slurm.run("squeue", "-h", "-j", job_id, "-o", "%j").stdout == "renamed\n"
    login.slurm.run("scontrol", "update", f"JobId={job_id}", "JobName=a|b FAILED|c")
    assert told(login, handle) == ("RUNNING", None)
    (login.folder / "state/alignlaunch/runs.sqlite").unlink()
    status = login.status(handle)
    assert (status["name"], status["state"], status["run_dir"]) == ("a|b FAILED|c", "RUNNING", str(folder))
    assert "task 0 on n1: sleep" in login.call("logs", handle).stdout
    login.call("cancel", handle)
    login.call("wait", handle, code=143)


def test_a_number_that_is_another_job_by_now_is_left_alone(login: Login) -> None:
    """As after slurmctld's ids began anew: the record names a job whose number a stranger has."""
    handle, _ = start(login, "mine", env={"ACT": "sleep"})
    stranger = login.slurm.submit("sleep 300", "--output=/dev/null")
    cluster = handle.rpartition("/")[0]
    import sqlite3

    with sqlite3.connect(login.folder / "state/alignlaunch/runs.sqlite") as database:
        (text,) = database.execute("SELECT run FROM runs WHERE handle = ?", (handle,)).fetchone()
        moved = f"{cluster}/{stranger}"
        row = (moved, "mine", json.dumps(json.loads(text) | {"handle": moved}))
        database.execute("INSERT INTO runs (handle, name, run) VALUES (?, ?, ?)", row)
    done = login.call("cancel", moved, code=2)
    assert "this number is another job by now" in done.stderr
    assert login.slurm.state(stranger) in ("PENDING", "RUNNING")
    assert login.status(moved)["state"] == "UNKNOWN"
    login.slurm.run("scancel", stranger)
    login.call("cancel", handle)


def test_a_task_of_an_array_is_a_run_of_its_own(login: Login) -> None:
    array = login.slurm.submit("sleep 300", "--array=0-2%1", "--output=/dev/null")
    cluster = f"slurm://{login.slurm.cluster}"
    until(lambda: login.slurm.state(f"{array}_0") == "RUNNING")
    assert login.status(f"{cluster}/{array}_0")["state"] == "RUNNING"
    assert login.status(f"{cluster}/{array}_2")["state"] == "PENDING"
    login.call("cancel", f"{cluster}/{array}_2")
    left = login.slurm.run("squeue", "-h", "--array", "-j", array, "-o", "%i %T").stdout
    assert sorted(left.splitlines()) == [f"{array}_0 RUNNING", f"{array}_1 PENDING"]
    done = login.call("cancel", f"{cluster}/{array}", code=2)
    assert "an array of jobs" in done.stderr
    assert login.slurm.state(f"{array}_0") == "RUNNING"
    login.slurm.run("scancel", array)


def test_another_cluster_cannot_be_taken_for_this_one(login: Login) -> None:
    handle, _ = start(login, "here", env={"ACT": "sleep"})
    job_id = handle.rpartition("/")[2]
    for command in ("status", "cancel", "wait", "logs"):
        done = login.call(command, f"slurm://elsewhere/{job_id}", code=2)
        assert f"cluster elsewhere cannot be asked from here; this is {login.slurm.cluster}" in done.stderr
    assert told(login, handle) == ("RUNNING", None)
    login.call("cancel", handle)
    assert run_dir(login, handle).is_dir()
