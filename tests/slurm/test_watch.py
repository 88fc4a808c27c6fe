"""Submitting and watching on a real Slurm, with a stand-in for python in place of training: what it does is told by
the job's environment. Every test runs with accounting on (slurmctld forgets in seconds) and off."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until

from .cli import Login, stub_login
from .cluster.private_slurm import PrivateSlurm
from .conftest import on_two_versions, slurm_ready

pytestmark = on_two_versions

# In place of python: `launcher: direct` calls it as preflight, whose last argument is the path of job.resolved.yaml.
STUB = """#!/bin/bash
[[ "$*" != *alignlaunch.launchers.retry* ]] || exit 1 # the batch script asks: no further attempt
echo "task $SLURM_PROCID on $SLURMD_NODENAME: $ACT"
touch "$RUN_DIR/started.$SLURM_PROCID"
case "$ACT" in
    sleep) sleep 300 ;;
    fail) if [[ $SLURM_PROCID == 1 ]]; then sleep 1; exit 7; else sleep 300; fi ;;
    dump) env -0 > "$RUN_DIR/environment.$SLURM_PROCID"; cp "${@: -1}" "$RUN_DIR/read.$SLURM_PROCID"; pwd ;;
esac
"""


@pytest.fixture(scope="module", params=["accounting", "no accounting"])
def login(request: pytest.FixtureRequest, programs: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Login:
    slurm = request.getfixturevalue("slurm_acct" if request.param == "accounting" else "slurm")
    return stub_login(slurm, tmp_path_factory.mktemp("login"), STUB)


#: For what accounting has no part in.
once = pytest.mark.parametrize("login", ["accounting"], indirect=True)


def run_dir(login: Login, handle: str) -> Path:
    return Path(login.status(handle)["run_dir"])


def start(login: Login, name: str, **keys: object) -> tuple[str, Path]:
    """A submitted job whose tasks have all begun."""
    login.write_job(name, **{"launcher": "direct", **keys})
    handle = login.submit(name, "--write")
    folder = run_dir(login, handle)
    until(lambda: all((folder / f"started.{task}").exists() for task in (0, 1)))
    return handle, folder


@once
def test_what_sbatch_got_is_what_the_lock_names(login: Login) -> None:
    handle, folder = start(login, "audited", env={"ACT": "sleep"})
    job_id = handle.rpartition("/")[2]
    got = login.slurm.run("scontrol", "write", "batch_script", job_id, "-").stdout
    locked = json.loads((login.folder / "launch/audited/slurm/alignlaunch.lock").read_text())
    assert hashlib.sha256(got.encode()).hexdigest() == locked["files"]["job.sbatch"]
    assert json.loads((folder / "run.json").read_text())["artifacts"]["job.sbatch"] == locked["files"]["job.sbatch"]
    login.call("cancel", handle)


def test_a_running_job_is_shown_followed_and_cancelled(login: Login) -> None:
    handle, _ = start(login, "runs", env={"ACT": "sleep"})
    status = login.status("runs")
    assert (status["state"], status["nodes"], status["exit_code"]) == ("RUNNING", "n[1-2]", None)
    follower = login.start("logs", handle, "-f", "--rank", "1")
    waiter = login.start("wait", handle)
    login.call("cancel", handle)
    follower_out, follower_err = follower.communicate(timeout=60)
    _, waiter_err = waiter.communicate(timeout=60)
    assert re.fullmatch(r"1: task 1 on n2: sleep\n(.|\n)*", follower_out), follower_err
    assert "task 0" not in follower_out
    assert waiter.returncode == 143, waiter_err  # 128 + TERM
    assert "CANCELLED" in waiter_err
    ended = login.status(handle)
    assert (ended["state"], ended["exit_code"]) == ("CANCELLED", 143)
    login.call("cancel", handle)  # ending what has ended is fine


def test_a_failing_job_shows_its_own_exit_code(login: Login) -> None:
    """Slurm itself says 143: that of the neighbour which srun ended."""
    login.write_job("fails", launcher="direct", env={"ACT": "fail"})
    done = login.call("slurm", "fails.yaml", "--cluster", "private", "--follow", code=7)
    assert "1: task 1 on n2: fail" in done.stdout
    status = login.status("last")
    assert (status["state"], status["exit_code"]) == ("FAILED", 7)
    assert login.call("wait", "fails", code=7).stdout == ""
    diagnosed = login.call("diagnose", "fails").stdout
    assert "first     task 1 on n2: Exited with exit code 7" in diagnosed
    tail = login.call("logs", "fails", "--node", "0", "--tail", "1").stdout
    assert tail.startswith("0: ")


def test_a_node_that_goes_down_is_told(login: Login) -> None:
    handle, _ = start(login, "nodedown", env={"ACT": "sleep"}, slurm={"requeue": False})
    login.slurm.set_node("n2", "DOWN")
    try:
        login.call("wait", handle, code=None)
        assert login.status(handle)["state"] == "NODE_FAIL"
    finally:
        login.slurm.set_node("n2", "RESUME")
        login.slurm.wait_idle()


def test_a_requeued_job_is_pending_then_runs_in_the_same_log(login: Login) -> None:
    handle, folder = start(login, "requeued", env={"ACT": "sleep"})
    (folder / "started.0").unlink()
    job_id = handle.rpartition("/")[2]
    login.slurm.run("scontrol", "requeuehold", job_id)  # held: it may be pending for a moment only
    until(lambda: login.status(handle)["state"] == "PENDING")
    login.slurm.run("scontrol", "release", job_id)
    until((folder / "started.0").exists)
    log = login.call("logs", handle).stdout
    assert log.count("0: task 0 on n1: sleep") == 2
    login.call("cancel", handle)


@once
def test_a_queued_job_runs_what_was_submitted(login: Login) -> None:
    """Edits after the submission, to the job file and to the committed artifact, cannot reach it."""
    login.slurm.set_node("n1", "DRAIN")
    try:
        login.write_job("queued", launcher="direct", env={"ACT": "dump"}, train={"max_steps": 5})
        handle = login.submit("queued")
        assert login.status(handle)["state"] == "PENDING"
        login.write_job("queued", launcher="direct", env={"ACT": "fail"}, train={"max_steps": 9})
        login.call("render", "queued.yaml", "--cluster", "private", "--target", "slurm")
    finally:
        login.slurm.set_node("n1", "RESUME")
    login.call("wait", handle)
    assert "max_steps: 5\n" in (run_dir(login, handle) / "read.0").read_text()


@once
def test_hostile_values_and_secrets_reach_every_task_unchanged(login: Login) -> None:
    hostile = {
        "SPACES": " a  b ",
        "QUOTES": "'\"`\\",
        "COMMAND": "$(touch owned) ${HOME}",
        "LINES": "a\nb\n",
        "UNI": "é漢",
    }
    login.write_job("hostile", launcher="direct", env={"ACT": "dump", **hostile}, secrets=["MY_TOKEN"])
    login.env["MY_TOKEN"] = "s3cret, with 'quotes'"
    login.env["LEAKED"] = "the submitting shell's own"
    try:
        handle = login.submit("hostile")
    finally:
        del login.env["MY_TOKEN"], login.env["LEAKED"]
    login.call("wait", handle)
    folder = run_dir(login, handle)
    for task in (0, 1):
        pairs = (folder / f"environment.{task}").read_text().split("\0")
        seen = dict(pair.split("=", 1) for pair in pairs if pair)
        assert {name: seen[name] for name in hostile} == hostile
        assert seen["MY_TOKEN"] == "s3cret, with 'quotes'"
        assert "LEAKED" not in seen
    (folder / "environment.0").unlink()
    (folder / "environment.1").unlink()
    written = b"".join(path.read_bytes() for path in login.folder.rglob("*") if path.is_file())
    assert b"s3cret" not in written
    assert not (login.folder / "owned").exists()


def test_the_handle_is_enough_when_the_record_is_lost(login: Login) -> None:
    handle, folder = start(login, "lost", env={"ACT": "sleep"})
    (login.folder / "state/alignlaunch/runs.sqlite").unlink()
    status = login.status(handle)
    assert (status["name"], status["state"], status["run_dir"]) == ("lost", "RUNNING", str(folder))
    login.call("cancel", handle)


def test_refusals_say_why_and_leave_nothing(login: Login) -> None:
    login.write_job("refused", slurm={"partition": "nope"})
    done = login.call("slurm", "refused.yaml", "--cluster", "private", code=3)
    assert "invalid partition specified: nope" in done.stderr
    assert re.search(r"job\.sbatch:\d+: #SBATCH --partition=nope", done.stderr)
    assert not list((login.folder / "runs").glob("refused-*"))
    assert "refused" not in login.call("list").stdout
    dry = login.call("slurm", "refused.yaml", "--cluster", "private", "--dry-run", code=3)
    assert "#SBATCH --partition=nope" in dry.stderr


@once
def test_a_dry_run_asks_sbatch_and_submits_nothing(login: Login) -> None:
    login.write_job("dry")
    done = login.call("slurm", "dry.yaml", "--cluster", "private", "--dry-run")
    assert "to start at" in done.stderr
    assert done.stdout.startswith("#!/bin/bash\n")
    assert not (login.folder / "launch/dry").exists()
    assert "dry" not in login.call("list").stdout


@pytest.fixture(params=["accounting", "no accounting"])
def own_slurm(request: pytest.FixtureRequest, programs: Path | None, tmp_path: Path) -> Iterator[PrivateSlurm]:
    """A Slurm for one test alone, that forgets quickly and whose controller may go down."""
    accounting = request.param == "accounting"
    slurm_ready(accounting=accounting, programs=programs)
    own = PrivateSlurm(tmp_path / "s", accounting=accounting, min_job_age=2, message_timeout=2, programs=programs)
    with own as slurm:
        yield slurm


def test_forgotten_jobs_and_a_controller_that_is_down(own_slurm: PrivateSlurm, tmp_path: Path) -> None:
    folder = tmp_path / "login"
    folder.mkdir()
    login = stub_login(own_slurm, folder, STUB)
    ended, _ = start(login, "ended", env={"ACT": "fail"})
    login.call("wait", ended, code=7)
    until(lambda: own_slurm.run("squeue", "--job", ended.rpartition("/")[2], check=False).returncode != 0)
    with sqlite3.connect(folder / "state/alignlaunch/runs.sqlite") as record:
        record.execute("DELETE FROM runs")
    # Only sacct knows it, or nobody: then a handle alone says so, instead of waiting for ever.
    expected = "FAILED" if own_slurm.accounting else "UNKNOWN"
    assert login.status(ended)["state"] == expected
    login.call("wait", ended, code=None)

    running, _ = start(login, "running", env={"ACT": "sleep"})
    own_slurm.stop_slurmctld()
    done = login.call("status", running, code=None if own_slurm.accounting else 3)
    if not own_slurm.accounting:
        assert "Unable to contact slurm controller" in done.stderr
    login.write_job("late")
    refused = login.call("slurm", "late.yaml", "--cluster", "private", code=3)
    assert "Unable to contact slurm controller" in refused.stderr
    assert not list((folder / "runs").glob("late-*"))
    waiter = login.start("wait", running)
    assert waiter.stderr
    assert any("asking again" in line for line in waiter.stderr)
    own_slurm.start_slurmctld()
    login.call("cancel", running)
    _, said = waiter.communicate(timeout=90)
    assert waiter.returncode == 143, said
