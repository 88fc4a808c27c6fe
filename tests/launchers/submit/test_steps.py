"""Pipelines that run: on this machine, one step after the other, and what is submitted of them.

One of them trains. In the others a shell script stands in for python; what it does is told by the job's environment.
tests/slurm/test_steps.py has the real Slurm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.stub_slurm import StubSlurm
from tests.support.tiny import TRAIN, make_model, write_data

ALIGNLAUNCH = [sys.executable, "-m", "alignlaunch.launchers.cli"]
STUB = """#!/bin/bash
echo "$ACT"
case "$ACT" in
    sleep) sleep 300 ;;
    *) exit "$ACT" ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of the pipeline, with the stand-in as the python of the profile `stub`."""
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (tmp_path / "base").mkdir()
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/stub.yaml").write_text(yaml.safe_dump({"python": str(stub), "device": "cpu"}))
    return tmp_path


def write_steps(place: Path, *acts: str) -> None:
    """Steps a, b, c, ... each on the output of the one before."""
    jobs: dict[str, Any] = {}
    for before, step, act in zip(["", *"abc"], "abcd", acts, strict=False):
        model = f"${{{before}.output}}" if before else "./base"
        jobs[step] = {"stage": "sft", "model": model, "data": {"train": ["hub/data"]}, "env": {"ACT": act}}
        jobs[step] |= {"nproc_per_node": 1, "zero": 0, "output_dir": f"./{step}"}
    (place / "chain.yaml").write_text(yaml.safe_dump({"name": "chain", "jobs": jobs}, sort_keys=False))


def environment(place: Path, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "ALIGNLAUNCH"))}
    return {**inherited, "XDG_STATE_HOME": str(place / "state"), "HF_HUB_OFFLINE": "1", **more}


def call(place: Path, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*ALIGNLAUNCH, *arguments],
        cwd=place,
        env=environment(place, **env),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def status(place: Path, run: str) -> list[tuple[str, str, int | None, str]]:
    shown = json.loads(call(place, "status", run, "--json").stdout)
    return [(run["name"], run["state"], run["exit_code"], run["reason"]) for run in shown]


def start(place: Path) -> subprocess.Popen[str]:
    """`alignlaunch local chain.yaml`, its first step begun."""
    process = subprocess.Popen(
        # A shell's background job is born with SIGINT ignored.
        ["env", "--default-signal=INT", *ALIGNLAUNCH, "local", "chain.yaml", "--cluster", "stub"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: any("sleep" in log.read_text() for log in place.glob("runs/*/*.log")))
    return process


def until(arrived: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not arrived():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def test_three_steps_train_one_on_the_output_of_the_other(tmp_path: Path) -> None:
    """The last step learns nothing, so that its result can only be the weights that the second one left."""
    make_model(tmp_path / "model")
    write_data(tmp_path)
    from safetensors.torch import load_file

    job: dict[str, Any] = {"nproc_per_node": 1, "zero": 0, "lora": None, "train": TRAIN}
    pairs = job | {"stage": "orpo", "data": {"train": ["pairs.jsonl"]}}
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump({**pairs, "name": "pairs", "model": "nowhere"}))
    jobs = {
        "again": {"job": "pairs.yaml", "name": "again", "model": "${orpo.output}", "train": {"learning_rate": 0.0}},
        "orpo": {"job": "pairs.yaml", "model": "${sft.output}"},
        "sft": {**job, "stage": "sft", "model": "model", "data": {"train": ["sft.jsonl"]}},
    }
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump({"name": "chain", "jobs": jobs}))
    done = call(tmp_path, "local", "chain.yaml")
    handles = done.stdout.split()
    assert [handle.split("-20")[0] for handle in handles] == ["local://chain-sft", "local://pairs", "local://again"]
    assert [state for _, state, _, _ in status(tmp_path, "chain")] == ["COMPLETED"] * 3
    trained = [
        load_file(tmp_path / f"{folder}/model.safetensors")["model.embed_tokens.weight"]
        for folder in ("model", "output/chain-sft", "output/pairs", "output/again")
    ]
    changed = [not before.equal(after) for before, after in pairwise(trained)]
    assert changed == [True, True, False]
    ran = json.loads((tmp_path / "output/again/provenance.json").read_text())["run"]
    assert (ran["name"], ran["pipeline"]) == ("again", {"path": str(tmp_path / "chain.yaml"), "step": "again"})


def test_the_first_failure_ends_it(place: Path) -> None:
    write_steps(place, "0", "7", "0")
    done = call(place, "local", "chain.yaml", "--cluster", "stub", code=7)
    assert "chain-c: never started" in done.stderr
    assert status(place, "chain") == [
        ("chain-a", "COMPLETED", 0, ""),
        ("chain-b", "FAILED", 7, ""),
        ("chain-c", "CANCELLED", None, "never started"),
    ]
    assert status(place, "last") == status(place, "chain")
    assert status(place, "chain-b") == [("chain-b", "FAILED", 7, "")]
    assert len(json.loads(call(place, "wait", "chain", "--json", code=7).stdout)) == 3
    assert call(place, "logs", "chain", "--tail", "1").stdout == "0\n7\n"
    assert "no log yet" in call(place, "logs", "chain-c", code=1).stderr


def test_waiting_steps_are_shown_and_cancelled_with_the_one_that_runs(place: Path) -> None:
    write_steps(place, "sleep", "0", "0")
    process = start(place)
    waiting = [("chain-b", "PENDING", None, "Dependency"), ("chain-c", "PENDING", None, "Dependency")]
    assert status(place, "chain") == [("chain-a", "RUNNING", None, ""), *waiting]
    call(place, "cancel", "chain")
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert [state for _, state, _, _ in status(place, "chain")] == ["CANCELLED"] * 3


def test_a_folder_that_a_live_run_writes_into_is_refused(place: Path) -> None:
    write_steps(place, "sleep")
    process = start(place)
    other: dict[str, Any] = {"name": "other", "stage": "sft", "model": "m", "data": {"train": ["d/d"]}}
    other |= {"nproc_per_node": 1, "zero": 0, "output_dir": "b/../a", "env": {"ACT": 0}}
    (place / "other.yaml").write_text(yaml.safe_dump(other))
    (run,) = json.loads(call(place, "status", "chain", "--json").stdout)
    handle = run["handle"]
    said = call(place, "local", "other.yaml", "--cluster", "stub", code=2).stderr
    assert f"output_dir: {place}/a: chain-a ({handle}, RUNNING), submitted by " in said
    assert not (place / "launch" / "other").exists()
    call(place, "local", "other.yaml", "--cluster", "stub", "--set", "output_dir=c")
    call(place, "cancel", handle)
    process.communicate(timeout=60)
    call(place, "local", "other.yaml", "--cluster", "stub", "--write")


def test_the_bad_data_of_every_step_is_told_before_anything_is_written(place: Path) -> None:
    write_steps(place, "0", "0", "0")
    chain = yaml.safe_load((place / "chain.yaml").read_text())
    for step in "bc":
        (place / f"{step}.jsonl").write_text('{"odd": 1}\n')
        chain["jobs"][step]["data"] = {"train": [f"{step}.jsonl"]}
    (place / "chain.yaml").write_text(yaml.safe_dump(chain))
    said = call(place, "local", "chain.yaml", "--cluster", "stub", code=2).stderr
    assert ("step b: " in said, "step c: " in said, "b.jsonl:1" in said, "c.jsonl:1" in said) == (True,) * 4
    assert not (place / "launch").exists()


def test_ctrl_c_ends_all(place: Path) -> None:
    write_steps(place, "sleep", "0")
    process = start(place)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in said) == (130, False)
    assert [state for _, state, _, _ in status(place, "chain")] == ["CANCELLED"] * 2


def test_without_the_process_that_would_start_them_waiting_steps_are_over(place: Path) -> None:
    write_steps(place, "sleep", "0")
    process = start(place)
    process.kill()
    process.wait()
    assert status(place, "chain") == [
        ("chain-a", "RUNNING", None, ""),
        ("chain-b", "CANCELLED", None, "never started"),
    ]
    call(place, "cancel", "chain")


def test_a_waiting_step_that_was_cancelled_is_not_started(place: Path) -> None:
    write_steps(place, "sleep", "0", "0")
    process = start(place)
    call(place, "cancel", "chain-b")
    call(place, "cancel", "chain-a")
    process.communicate(timeout=60)
    assert not list(place.glob("runs/chain-[bc]-*/*.log"))


def test_what_an_earlier_step_will_make_is_not_missing(place: Path) -> None:
    write_steps(place, "0", "0")
    call(place, "local", "chain.yaml", "--cluster", "stub")
    (place / "base").rmdir()
    for dry in ([], ["--dry-run"]):  # both look at the same things
        said = call(place, "local", "chain.yaml", "--cluster", "stub", *dry, code=2).stderr
        assert said.count("is not on this machine") == 1
        assert "model: ./base is not on this machine" in said


def test_the_drift_of_every_step_is_shown_before_anything_runs(place: Path) -> None:
    write_steps(place, "0", "0", "0")
    call(place, "render", "chain.yaml", "--cluster", "stub")
    write_steps(place, "0", "1", "2")
    said = call(place, "local", "chain.yaml", "--cluster", "stub", code=1).stderr
    assert ("+  ACT: '1'\n" in said, "+  ACT: '2'\n" in said) == (True, True)
    assert not (place / "runs").exists()
    call(place, "local", "chain.yaml", "--cluster", "stub", "--write", code=1)
    assert status(place, "chain-b")[0][2] == 1


def test_an_uncommitted_pipeline_file_is_refused(place: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(place), *identity, *arguments], check=True, capture_output=True)

    for name in "ab":
        text = (
            f"name: {name}\nstage: sft\nmodel: m\ndata: {{train: [d/d]}}\nnproc_per_node: 1\nzero: 0\nenv: {{ACT: 0}}\n"
        )
        (place / f"{name}.yaml").write_text(text)
    (place / "chain.yaml").write_text("name: chain\njobs: {a: {job: a.yaml}, b: {job: b.yaml, after: [a]}}\n")
    call(place, "render", "chain.yaml", "--cluster", "stub")
    git("init", "-q")
    git("add", "launch", "clusters", "a.yaml", "b.yaml")
    git("commit", "-qm", "all but the pipeline")
    options = ["local", "chain.yaml", "--cluster", "stub", "--require-committed"]
    assert "not committed: chain.yaml" in call(place, *options, code=1).stderr
    git("add", "chain.yaml")
    git("commit", "-qm", "the pipeline")
    call(place, *options)


def test_a_dry_run_shows_every_script_and_writes_nothing(place: Path) -> None:
    write_steps(place, "0", "0", "0")
    before = sorted(place.iterdir())
    assert call(place, "local", "chain.yaml", "--dry-run").stdout.count("#!/bin/bash\n") == 3
    shown = call(place, "slurm", "chain.yaml", "--dry-run", PATH=str(place))  # no sbatch to ask there
    assert shown.stdout.count("#SBATCH --job-name=chain-") == 3
    assert sorted(place.iterdir()) == before


# sbatch numbers its jobs from 1 and refuses the one that it is told to; scancel notes what it is given.
SBATCH = r"""#!/bin/bash
PATH=/usr/bin:/bin here=$(dirname "$0")
if [[ "$*" == *--test-only* ]]; then exit 0; fi
echo "$@" >> "$here/submitted"
count=$(wc -l < "$here/submitted")
if [[ $count == "$REFUSE" ]]; then echo 'sbatch: error: Invalid account' >&2; exit 1; fi
echo "Submitted batch job $count"
"""
SQUEUE = r"""#!/bin/bash
PATH=/usr/bin:/bin here=$(dirname "$0")
for argument; do case $argument in --jobs=*) id=${argument#--jobs=} ;; esac; done
[[ -e $here/submitted ]] || exit 0
state=PENDING; grep -qsx "$id" "$here/cancelled" && state=CANCELLED
echo "$id|$state|Priority|0:0||$(sed -n "${id}s/.* //p" "$here/submitted")|"
"""
SCANCEL = '#!/bin/bash\necho "$@" >> "$(/usr/bin/dirname "$0")/cancelled"\n'


@pytest.fixture
def stubs(place: Path) -> StubSlurm:
    slurm = StubSlurm.create(place / "bin")
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}.items():
        (slurm.bin / name).write_text(text)
        (slurm.bin / name).chmod(0o755)
    return slurm


def dependencies(stubs: StubSlurm) -> list[str]:
    lines = (stubs.bin / "submitted").read_text().splitlines()
    return [" ".join(word for word in line.split() if word.startswith(("--dep", "--kill"))) for line in lines]


def test_each_job_waits_for_those_it_needs(place: Path, stubs: StubSlurm) -> None:
    write_steps(place, "0", "0", "0")
    more = "  d: {stage: sft, model: '${a.output}', data: {train: [d/d]}, after: [c]}\n"
    (place / "chain.yaml").write_text((place / "chain.yaml").read_text() + more)
    done = call(place, "slurm", "chain.yaml", "--json", PATH=str(stubs.bin))
    shown = json.loads(done.stdout)
    assert [run["handle"] for run in shown] == [f"slurm://stub/{i}" for i in (1, 2, 3, 4)]
    assert len({run["pipeline"] for run in shown}) == 1
    assert dependencies(stubs) == [
        "",
        "--dependency=afterok:1 --kill-on-invalid-dep=yes",
        "--dependency=afterok:2 --kill-on-invalid-dep=yes",
        "--dependency=afterok:3:1 --kill-on-invalid-dep=yes",
    ]


def test_a_submission_that_fails_half_way_takes_the_others_back(place: Path, stubs: StubSlurm) -> None:
    write_steps(place, "0", "0", "0")
    done = call(place, "slurm", "chain.yaml", code=3, PATH=str(stubs.bin), REFUSE="3")
    assert done.stdout == ""
    assert "c could not be submitted, so none shall be\n" in done.stderr
    assert "cancelled slurm://stub/2 chain-b\nalignlaunch: cancelled slurm://stub/1 chain-a\n" in done.stderr
    assert "Invalid account" in done.stderr
    assert (stubs.bin / "cancelled").read_text() == "2\n1\n"
    assert not list(place.glob("runs/chain-c-*"))
    stubs.remove("scancel")  # and now they cannot be
    (stubs.bin / "submitted").unlink()
    said = call(place, "slurm", "chain.yaml", code=3, PATH=str(stubs.bin), REFUSE="2").stderr
    assert "slurm://stub/1 chain-a could not be cancelled" in said
    assert "later: alignlaunch cancel slurm://stub/1" in said
