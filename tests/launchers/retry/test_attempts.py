"""The record of attempts, the nodes that are left out, and the program that the batch script asks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignlaunch.launchers.diagnose.patterns import Retry
from alignlaunch.launchers.retry import attempts
from alignlaunch.launchers.retry.attempts import Recorded
from alignlaunch.launchers.retry.decision import Decision, Ended
from alignlaunch.launchers.runs import bad_nodes
from alignlaunch.launchers.runs.bad_nodes import BadNode

HEAD = "alignlaunch: tiny (sft): 2 nodes x 1 = 2 processes; head n1:20000\n"
XID = "1: NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.\n"


def test_what_is_written_is_read_and_what_is_torn_is_skipped(tmp_path: Path) -> None:
    one = Recorded(1.5, Ended("xid", Retry.ELSEWHERE, 1, 10, "n1"), Decision(True, "xid: why", "n1"), "a.out:3: Xid")
    attempts.add(tmp_path, one)
    with (tmp_path / attempts.FILE).open("a") as file:
        file.write('{"time": 1\n[]\n{"time": "x"}\n\x00')
    assert attempts.read(tmp_path) == [one]
    assert attempts.read(tmp_path / "nowhere") == []


def test_bad_nodes_expire_and_can_be_forgotten(tmp_path: Path) -> None:
    file, now = tmp_path / "state/bad.jsonl", time.time()
    assert bad_nodes.read(file) == []
    bad_nodes.add(file, BadNode("n1", "ecc", "run", now))
    bad_nodes.add(file, BadNode("n2", "ecc", "run", now - 8 * 86400))
    bad_nodes.add(file, BadNode("--export=ALL", "a name that is an option", "run", now))
    with file.open("a") as lines:
        lines.write("torn {\n")
    assert [one.node for one in bad_nodes.read(file)] == ["n1"]
    assert bad_nodes.forget(file, "n1")
    assert not bad_nodes.forget(file, "n1")
    assert bad_nodes.read(file) == []


def ask(folder: Path, log: str, *, code: int = 1, nodes: tuple[str, ...] = ("n1", "n2")) -> tuple[int, str, str]:
    """The exit code of the program, the node on its stdout, and what it says in the log."""
    (folder / "run.out").write_text(log)
    command = [sys.executable, "-m", "alignlaunch.launchers.retry", str(folder), "--code", str(code)]
    command += ["--log", str(folder / "run.out"), "--tasks-per-node", "1", "--nodes", *nodes]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin", bad_nodes.VARIABLE: str(folder / "bad.jsonl")},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_the_batch_script_is_told_the_node(tmp_path: Path) -> None:
    code, node, said = ask(tmp_path, HEAD + XID)
    assert (code, node) == (0, "n2")
    assert said.startswith("alignlaunch: tried again: xid: it may do better (run.out:2: NVRM: Xid")
    assert said.endswith("; without node n2")
    assert [one.node for one in bad_nodes.read(tmp_path / "bad.jsonl")] == ["n2"]
    (record,) = map(json.loads, (tmp_path / attempts.FILE).read_text().splitlines())
    assert (record["cause"], record["again"], record["without"]) == ("xid", True, "n2")


@pytest.mark.parametrize(
    ("log", "code", "why"),
    [
        ("0: torch.OutOfMemoryError: CUDA out of memory.\n", 1, "cuda-oom: another attempt would end in the same way"),
        ("0: alignlaunch.train: error: data: bad\n", 2, "another attempt would end in the same way"),
        ("nothing of interest\n", 1, "unknown: the cause is not known, and no newer checkpoint was saved"),
        ("", 1, "unknown: the cause is not known, and no newer checkpoint was saved"),
    ],
)
def test_no_further_attempt(tmp_path: Path, log: str, code: int, why: str) -> None:
    found, node, said = ask(tmp_path, HEAD + log if log else "", code=code)
    assert (found, node) == (1, "")
    assert f"not tried again: {why}" in said or why in said


def test_what_an_earlier_attempt_said_does_not_count(tmp_path: Path) -> None:
    _, _, said = ask(tmp_path, HEAD + XID + HEAD + "0: torch.OutOfMemoryError: CUDA out of memory.\n")
    assert "not tried again: cuda-oom" in said
