"""The bash artifacts: two processes of this machine act as two nodes, with torchrun and with deepspeed; and `local`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.matrix import matrix
from tests.support.ports import free_port
from tests.support.tiny import TRAIN, make_model, write_data

ALIGNLAUNCH = [sys.executable, "-m", "alignlaunch.launchers.cli"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job file's folder with a tiny model and data."""
    folder = tmp_path_factory.mktemp("bash")
    make_model(folder / "model")
    write_data(folder)
    return folder


def environment(place: Path, **more: str) -> dict[str, str]:
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PET_", "MASTER_", "WORLD_", "NODE_"))
    }
    own = {"XDG_STATE_HOME": str(place / "state"), "HF_HUB_OFFLINE": "1", "ALIGNLAUNCH_PYTHON": sys.executable}
    return {**inherited, **own, **more}


def write_job(place: Path, name: str, **keys: Any) -> Path:
    job: dict[str, Any] = {
        "name": name,
        "stage": "sft",
        "model": "model",
        "data": {"train": ["sft.jsonl"]},
        "output_dir": f"output/{name}",
        "nproc_per_node": 1,
        "zero": 0,
        "lora": None,
        "train": TRAIN,
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job | keys))
    return path


def call(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALIGNLAUNCH, *arguments], cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.fixture(scope="module")
def alone(place: Path) -> list[float]:
    """One process, without torchrun, at the effective batch size of two."""
    write_job(place, "alone", train=TRAIN | {"gradient_accumulation_steps": 4})
    done = call(place, "local", "alone.yaml")
    assert done.returncode == 0, done.stderr
    assert "(single" in next((place / "runs").glob("alone-*/alone.log")).read_text()
    return losses(place / "output/alone")


@pytest.mark.parametrize(
    ("script", "zero", "form"),
    [
        matrix("torchrun.sh", "0", "arguments"),
        matrix("torchrun.sh", "2", "environment"),
        matrix("deepspeed.sh", "2", "arguments"),
        ("deepspeed.sh", "3", "environment"),
    ],
)
def test_two_nodes_by_hand(place: Path, alone: list[float], script: str, zero: str, form: str) -> None:
    """As the documents say it: the same command on each node, with its own NODE_RANK."""
    name = f"hand-{script.partition('.')[0]}-{zero}"
    write_job(place, name, zero=int(zero) or 1)
    assert call(place, "render", f"{name}.yaml", "--target", "bash").returncode == 0
    port = str(free_port())
    if form == "arguments":
        arguments, more = [zero, "2", "1", "127.0.0.1", port], {}
    else:  # the older form: WORLD_SIZE is the number of nodes
        arguments = []
        more = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NPROC_PER_NODE": "1"}
    nodes = [
        subprocess.Popen(
            ["bash", f"launch/{name}/bash/{script}", *arguments],
            cwd=place,
            env=environment(place, NODE_RANK=str(rank), **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    assert "processes       2 (1 on each node)" in said[0]
    assert losses(place / f"output/{name}") == pytest.approx(alone, abs=1e-4)


def test_local_runs_all_nodes_of_a_job_here(place: Path, alone: list[float]) -> None:
    """A job of two nodes keeps its effective batch size, and so its losses, on one machine."""
    write_job(place, "folded", nnodes=2)
    done = call(place, "local", "folded.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("local://folded-")
    assert "step 3/3" in done.stderr
    assert "result: " in done.stderr
    assert losses(place / "output/folded") == pytest.approx(alone, abs=1e-4)
    status = json.loads(call(place, "status", "folded", "--json").stdout)[0]
    assert (status["state"], status["exit_code"]) == ("COMPLETED", 0)
    assert "[rank0]: " in call(place, "logs", "folded", "--rank", "0", "--tail", "3").stdout


def test_preflight_only(place: Path) -> None:
    write_job(place, "looked", nproc_per_node=2)
    done = call(place, "local", "looked.yaml", "--preflight-only")
    assert done.returncode == 0, done.stderr
    log = call(place, "logs", "looked").stdout
    assert "preflight: passed: 1 node x 2 at 127.0.0.1:" in log
    assert "all-reduce: " in log
    assert "nothing was trained" in log
    assert not (place / "output/looked/metrics.jsonl").exists()
    (place / "two.yaml").write_text(yaml.safe_dump({"name": "two", "jobs": {"first": {"job": "looked.yaml"}}}))
    refused = call(place, "local", "two.yaml", "--preflight-only")
    assert refused.returncode == 2
    assert "--preflight-only: two.yaml is a pipeline" in refused.stderr
    write_job(place, "swept", sweep={"over": {"train.seed": [1, 2]}})
    refused = call(place, "local", "swept.yaml", "--preflight-only")
    assert refused.returncode == 2
    assert "--preflight-only: swept.yaml is a sweep" in refused.stderr
    refused = call(place, "local", "looked.yaml", "--preflight-only", "--set", "preflight_timeout=0")
    assert refused.returncode == 2
    assert "preflight_timeout is 0: nothing would be compared" in refused.stderr


def test_local_tells_a_failure_and_its_code(place: Path) -> None:
    (place / "broken.jsonl").write_text('{"messages": [}\n')
    write_job(place, "broken", data={"train": ["broken.jsonl"]})
    done = call(place, "local", "broken.yaml", "--no-data-check")
    assert done.returncode == 2
    assert "broken.jsonl:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert call(place, "wait", "broken").returncode == 2


def _started(place: Path, name: str) -> subprocess.Popen[str]:
    """A long local run that has made its first step."""
    write_job(place, name, nproc_per_node=2, train=TRAIN | {"max_steps": 100000})
    # A shell's background jobs, and so these tests started as one, are born with SIGINT ignored.
    command = ["env", "--default-signal=INT", *ALIGNLAUNCH, "local", f"{name}.yaml"]
    process = subprocess.Popen(command, cwd=place, env=environment(place), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    metrics = place / f"output/{name}/metrics.jsonl"
    while not (metrics.exists() and '"loss"' in metrics.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    return process


def _processes(name: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"runs/{name}-"], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.parametrize("number", [signal.SIGINT, matrix(signal.SIGTERM)])
def test_ctrl_c_stops_every_process(place: Path, number: signal.Signals) -> None:
    name = f"interrupted-{number}"
    process = _started(place, name)
    assert len(_processes(name)) >= 3  # torchrun and two workers
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert _processes(name) == []
    assert json.loads(call(place, "status", name, "--json").stdout)[0]["state"] == "CANCELLED"


def test_cancel_from_another_terminal(place: Path) -> None:
    process = _started(place, "cancelled")
    assert call(place, "cancel", "cancelled").returncode == 0
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert _processes("cancelled") == []
    assert json.loads(call(place, "status", "cancelled", "--json").stdout)[0]["state"] == "CANCELLED"
