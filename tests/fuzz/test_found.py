"""Inputs that fuzzing found to break the rule, each with the target that it was found by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignlaunch.launchers.errors import printable
from alignlaunch.launchers.runs import bad_nodes
from alignlaunch.train.outputs import manifest
from tests.conftest import Cli

from .records import ATTEMPT, BAD, METRIC, PROCESS, PROVENANCE, RUN
from .test_fuzz import ALL
from .training import FACTS, HANG, MANIFEST, REPORT

NESTED = b"[" * 100_000
_JOB: dict[str, Any] = {"metadata": {"name": "tiny", "uid": "u"}, "spec": {}}
FOUND: list[tuple[str, Any]] = [
    ("squeue", b"7|CANCELLED|None||n1|/shared/a.sh|\n"),
    ("sacct", b"7||0:0|None|n1|sbatch a.sh\n"),
    ("sinfo", b"gpu*|1-00:00:00|2|8|gpu:" + b"9" * 5000 + b"\n"),
    ("sinfo", b"gpu*|1-00:00:00|" + b"9" * 5000 + b"|8|gpu:4\n"),
    ("Kubernetes", (_JOB | {"status": None}, [], [])),
    ("Kubernetes", (_JOB | {"metadata": {}}, [], [])),
    ("the record", [RUN | {"name": None}]),
    ("the record", [RUN | {"handle": []}]),
    ("the record", [RUN | {"handle": "ftp://x"}]),
    ("the record", [RUN | {"submitted_at": None}]),
    ("the record", [RUN | {"run_dir": 5, "name": "\ud800"}]),
    ("the record", [None]),
    ("claims", {"by": "ann", "run": RUN | {"handle": 5}}),
    ("claims", {"by": "ann", "run": []}),
    ("claims", NESTED),
    ("run.json", PROVENANCE | {"nnodes": None}),
    ("run.json", PROVENANCE | {"pipeline": {"path": 5}}),
    ("run.json", PROVENANCE | {"set": 5, "job_file": "job.yaml\0"}),
    ("provenance.json", PROVENANCE | {"run_id": 1}),
    ("processes", PROCESS | {"pid": "x"}),
    ("processes", NESTED),
    ("metrics", json.dumps(METRIC | {"time": 1e300, "event": "started"}).encode()),
    ("metrics", NESTED),
    ("metrics", json.dumps(METRIC).encode() + b"\n" + json.dumps(METRIC | {"step": 1e-300, "time": 9e9}).encode()),
    ("attempts", json.dumps(ATTEMPT | {"time": 1e300}).encode()),
    ("faulty nodes", json.dumps(BAD | {"time": 1e300}).encode()),
    ("lock files", {"files": [None]}),
    ("lock files", {"files": 5}),
    ("lock files", {"files": ["../../job.yaml", "/etc/passwd", "..", ""]}),
    ("checkpoints", (json.dumps(MANIFEST).encode(), b"\x80", ".failed-starts")),
    ("checkpoints", (json.dumps(MANIFEST).encode(), b"\x80", ".starts")),
    (
        "checkpoints",
        (json.dumps(MANIFEST | {"files": [{"path": "a\0b", "size": 1, "digest": "", "rank": 0}]}).encode(), b"", "x"),
    ),
    ("checkpoints", (b'{"job": {"a": ' + NESTED, b"", "x")),
    ("resolved jobs", NESTED[:2000]),
    ("resolved jobs", b"name: 2026-13-45\n"),
    ("reports of a hang", b"null\n\nx"),
    ("reports of a hang", json.dumps(HANG | {"limit": None}).encode() + b"\n\nx"),
    ("preflight: facts and reports", (json.dumps(FACTS | {"x": 1}).encode(), NESTED)),
    ("preflight: facts and reports", (json.dumps(FACTS).encode(), json.dumps(REPORT | {"skew": "NaN"}).encode())),
    ("preflight: node 0's messages", b'{"verdict": {"nodes": {"x": 1}}}'),
    ("--set", ["data.train=\ud800"]),
]


@pytest.mark.parametrize(("name", "value"), FOUND, ids=[f"{i}-{name}" for i, (name, _) in enumerate(FOUND)])
def test_found(name: str, value: Any) -> None:
    ALL[name].holds(value)


def test_a_message_does_not_reach_the_terminals_controls(cli: Cli, job_file: Any) -> None:
    """A key of a job file from git could clear the screen, or rewrite what was said before."""
    job_file.write_text(job_file.read_text() + '"\\e[2J\\x9b1mx": 1\n')
    done = cli("render", job_file)
    assert done.returncode == 2
    assert "\\x1b[2J\\x9b1mx: unknown key" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert printable("a\tb\nc é\ud800") == "a\tb\nc é\\ud800"


def test_a_node_cannot_be_left_out_for_ever(tmp_path: Any) -> None:
    """By an entry from the future: whoever may write to a site's file could take nodes away from the others."""
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(BAD | {"time": 1e300}) + "\n")
    assert bad_nodes.read(file) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "..", "a/..", "a\0b", ""])
def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Any, path: str) -> None:
    file = {"path": path, "size": 1, "digest": "", "rank": 0}
    (tmp_path / manifest.NAME).write_text(json.dumps(MANIFEST | {"files": [file]}))
    assert manifest.read(tmp_path) is None
    (tmp_path / manifest.NAME).write_text(json.dumps(MANIFEST | {"files": [file | {"path": "a/..b/c..d"}]}))
    assert manifest.read(tmp_path) is not None
