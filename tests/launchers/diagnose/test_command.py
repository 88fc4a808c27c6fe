"""`alignlaunch diagnose` as a user calls it: runs by name and handle, folders, files, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.diagnose import advice, patterns, report
from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from tests.conftest import Cli

LOGS = Path(__file__).parent / "logs"
DUMPS = Path(__file__).parent / "dumps"
#: Llama-3-8B's shape.
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def log(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of runs of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def local_run(home: Path, text: str, code: int | None, name: str = "train") -> Path:
    """A run on this machine that ended with `code`; for None it left none."""
    folder = home / "runs" / f"{name}-1"
    folder.mkdir(parents=True)
    (folder / f"{name}.log").write_text(text)
    if code is not None:
        (folder / "exit_code").write_text(f"{code}\n")
    records.save(
        [Run(f"local://{folder.name}", name, str(folder), str(folder / f"{name}.log"), status=Status("RUNNING"))]
    )
    return folder


def diagnosed(text: str) -> dict[str, Any]:
    ((name, verdict),) = report.diagnose(text, lambda _: None)
    return report.as_json(name, verdict)


@pytest.mark.parametrize("text", ["train", "last", "local://train-1"])
def test_a_run_by_name_or_handle(home: Path, text: str) -> None:
    local_run(home, log("data"), 2)
    assert diagnosed(text)["verdict"] == "data"


def test_a_job_that_is_called_after_the_rank_of_its_adapter(home: Path) -> None:
    folder = local_run(home, log("no-failure") + "MemoryError\n", 1, "sft-rank16")
    (folder / "dmesg.txt").write_text("a line\n")
    for text in ("sft-rank16", str(folder), str(folder / "sft-rank16.log")):
        assert "rank 16" not in diagnosed(text)["first"]


def test_a_run_that_ended_well_is_said_to_be_fine_whatever_its_log_says(home: Path) -> None:
    local_run(home, log("data"), 0)
    assert diagnosed("train")["verdict"] == "completed"


def test_a_run_without_a_word(home: Path) -> None:
    local_run(home, "[rank0]: step 1\n", 9)
    found = diagnosed("train")
    assert (found["verdict"], found["cause"]) == ("unknown", "the run is FAILED; its log does not say why")


def test_an_output_folder_that_cannot_be_looked_into(home: Path) -> None:
    """A pod's, under whose path this machine has something else."""
    folder = local_run(home, log("data"), 2)
    place = "/" + "x" * 300
    (run,) = records.find("train")
    records.save([replace(run, output_dir=place)])
    found = diagnosed("train")
    assert (found["verdict"], found["notes"]) == ("data", [f"{place}: cannot be read (File name too long)"])
    (folder / "train.log").unlink()
    assert "train.log: cannot be read (No such file or directory)" in diagnosed("train")["notes"]


def test_dumps_in_the_folder_of_the_run(home: Path) -> None:
    folder = local_run(home, log("nccl-timeout"), 1)
    for dump in DUMPS.iterdir():
        (folder / dump.name).write_bytes(dump.read_bytes())
    found = diagnosed("train")
    assert found["verdict"] == "nccl-timeout"
    assert any("ranks that did not come to it: [1]" in note for note in found["notes"])


def test_a_folder_that_somebody_copied(tmp_path: Path) -> None:
    """One file a node; beside them what is no log."""
    (tmp_path / "node-0.out").write_text(log("peer-lost"))
    (tmp_path / "node-1.out").write_text("[rank1]: OSError: [Errno 28] No space left on device\n")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 5000)
    (tmp_path / "core.out").write_bytes(b"\0No space left on device")
    found = diagnosed(str(tmp_path))
    assert found["verdict"] == "disk-full"
    assert found["evidence"][0].startswith("node-1.out:1: ")


def test_what_another_log_says_outlasts_a_new_attempt(tmp_path: Path) -> None:
    """The kernel's log of a node, read before the job's own, whose first line begins an attempt."""
    (tmp_path / "dmesg-n2.log").write_text(log("xid"))
    begin = "alignlaunch: train (sft): 2 nodes x 4 = 8 processes; head n1:20001\n"
    (tmp_path / "train-77.out").write_text(f"{begin}[rank0]: MemoryError\n{begin}{log('peer-lost')}")
    found = diagnosed(str(tmp_path))
    assert found["verdict"] == "xid"
    assert found["evidence"][0].startswith("dmesg-n2.log:")


def test_two_logs_of_one_node_rank(tmp_path: Path) -> None:
    for host in ("a", "b"):
        (tmp_path / f"{host}.out").write_text("nodes 2, this is 1, head n0:20001\n")
    assert diagnosed(str(tmp_path))["verdict"] == "node-rank"


def test_the_rank_of_a_line_from_the_name_of_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "attempt_0" / "3"
    folder.mkdir(parents=True)
    (folder / "stderr.log").write_text("MemoryError\n")
    assert diagnosed(str(tmp_path))["first"] == "rank 3"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.exists, "no such file or folder"),
        (Path.mkdir, "holds no log"),
        (Path.touch, "the log is empty"),
    ],
    ids=["nothing", "an empty folder", "an empty file"],
)
def test_bad_input(tmp_path: Path, home: Path, make: Any, said: str) -> None:
    make(tmp_path / "logs")
    with pytest.raises(UsageError, match=said) as raised:
        report.diagnose(str(tmp_path / "logs"), lambda _: None)
    assert "remedy: " in str(raised.value)


def test_the_command(tmp_path: Path, cli: Cli) -> None:
    done = cli("diagnose", LOGS / "cuda-oom.log")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1] == "verdict   cuda-oom: the job needs more memory than a GPU has"
    assert "first     rank 3" in lines
    assert lines[-1].strip().startswith("torch.OutOfMemoryError")
    ((found),) = json.loads(cli("diagnose", LOGS / "cuda-oom.log", "--json").stdout)
    assert found["verdict"] == "cuda-oom"
    assert cli("diagnose", LOGS / "no-failure.log").returncode == 0
    assert cli("diagnose").returncode == 2
    absent = cli("diagnose", "nowhere")
    assert (absent.returncode, "remedy" in absent.stderr, "Traceback" in absent.stderr) == (2, True, False)


def job(folder: Path, **keys: Any) -> dict[str, Any]:
    """A job of an 8B model, as its run.json tells of it."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model/config.json").write_text(json.dumps(CONFIG))
    path = folder / "job.yaml"
    data = {"name": "big", "stage": "sft", "model": "model", "data": {"train": ["d"]}, "nproc_per_node": 8, "zero": 0}
    path.write_text(json.dumps(data | keys))
    return {"job_file": str(path), "job_sha256": jobfile.load(path).digest, "set": []}


OOM = ["GPU 3 has a total capacity of 79.10 GiB of which 3.71 GiB is free."]


def test_the_planner_advises_what_takes_less(tmp_path: Path) -> None:
    said, *options = advice.advice(job(tmp_path, lora=None), OOM)
    assert said.startswith("plan: DDP takes about ")
    assert said.endswith(" GiB of 79.1")
    assert any("--set zero=" in option for option in options)


def test_no_advice_for_a_job_file_that_says_something_else_by_now(tmp_path: Path) -> None:
    made_from = job(tmp_path, lora=None)
    Path(made_from["job_file"]).write_text("name: other\n")
    said = advice.advice(made_from, OOM)
    assert all("--set" not in line for line in said)
    assert advice.advice({}, OOM) == []


def test_no_advice_without_the_size_of_a_gpu(tmp_path: Path) -> None:
    (said,) = advice.advice(job(tmp_path), ["CUDA out of memory"])
    assert "does not say how large" in said


RANK_1 = (
    "[rank1]: Traceback (most recent call last):\n"
    '[rank1]:   File "train.py", line 3, in step\n'
    "[rank1]: KeyError: 'foo'\n"
)
PIPE = (
    'Traceback (most recent call last):\n  File "launch.py", line 9, in main\nBrokenPipeError: [Errno 32] Broken pipe\n'
)
LOST = (
    "[rank0]: Traceback (most recent call last):\n"
    '[rank0]:   File "train.py", line 3, in step\n'
    "[rank0]: torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error\n"
)


@pytest.mark.parametrize("rest", [PIPE, PIPE + LOST], ids=["launcher", "launcher and peer"])
def test_a_ranks_traceback_counts_before_its_launchers(cli: Cli, tmp_path: Path, rest: str) -> None:
    """Where no launcher reported who failed: the launcher's own traceback comes of the rank's, as do its peers'."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/job.log").write_text(RANK_1 + rest)
    (found,) = json.loads(cli("diagnose", "logs", "--json").stdout)
    assert "rank 1" in found["first"]
    assert "KeyError: 'foo'" in "\n".join(found["traceback"])
    assert found["cause"] != "peer-lost"


def test_a_node_that_would_restart_alone_hides_nothing(home: Path) -> None:
    """Seen on Slurm, torch 2.13: node 0 gave up, for bad data; node 1 said that it restarts before it lost node 0."""
    path = home / "log.txt"
    path.write_text((LOGS.parent / "late-restart.log").read_text())
    found = diagnosed(str(path))
    assert (found["verdict"], found["where"]) == ("data", "task 0")
    path.write_text(
        path.read_text()
        + "0: [rank0]: alignlaunch: x: stage sft, process 0 of 2 (torchrun), 1 on this node, restart 1\n"
    )
    assert diagnosed(str(path))["verdict"] != "data"


def test_a_store_that_did_not_answer_is_tried_again(home: Path) -> None:
    """Seen on Slurm, on a busy machine: one node, whose launcher did not reach its own store in time."""
    path = home / "log.txt"
    path.write_text(
        "alignlaunch: faulty (sft): 1 nodes x 1 = 1 processes; head n1:21954\n"
        "0: alignlaunch: preflight: passed: 1 node x 1 at n1:21954, 0.1 s\n"
        "0: alignlaunch: the nodes do not meet (again), as one has failed or is gone: "
        "The connection to the C10d store has failed. See inner exception for details.\n"
        "srun: error: n1: task 0: Exited with exit code 3\n"
    )
    assert diagnosed(str(path))["verdict"] == "rendezvous-unreachable"
    ((pattern, _),) = patterns.matches(path.read_text().splitlines()[2])
    assert pattern.retry.value == "again"
