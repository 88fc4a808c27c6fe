"""What earlier commands and runs wrote, and others may have: the record, claims, attempts, metrics, faulty nodes."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from rich.console import Console

from alignlaunch.launchers import tables, trained
from alignlaunch.launchers.audit import provenance
from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.cli import nodes, summary
from alignlaunch.launchers.cli.top_view import View
from alignlaunch.launchers.diagnose import advice, failures, flight
from alignlaunch.launchers.results import figures, gather, sections, table
from alignlaunch.launchers.results import summary as comparison
from alignlaunch.launchers.results.watched import Seen, Watched
from alignlaunch.launchers.retry import attempts
from alignlaunch.launchers.retry.decision import Decision, Ended, decide
from alignlaunch.launchers.runs import bad_nodes, claim, processes, records, runfolder
from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.watch import lines, overview, states, words
from alignlaunch.train import config, trained_folder

from .jobs import text_of
from .target import Target
from .values import altered, damaged, trees

DUMPS = Path(__file__).parents[1] / "launchers/diagnose/dumps"
RUN = asdict(
    Run(
        "slurm://lab/12",
        "tiny",
        "/shared/runs/tiny-20261128-101112-ab12",
        "/shared/runs/tiny-20261128-101112-ab12/tiny-12.out",
        "/shared/output/tiny",
        "/shared/job.yaml",
        "2026-11-28T10:11:12+00:00",
        status=Status("COMPLETED", 0, "", "n1"),
    )
)
CLAIM = {"by": "ann on login1", "run": RUN}
BAD = {"node": "n17", "cause": "xid", "run": "tiny-20261128-101112-ab12", "time": time.time()}
ATTEMPT = {"time": 1764300000.0, "cause": "xid", "retry": "elsewhere", "code": 1, "step": 20, "node": "n1"} | {
    **{"again": True, "why": "xid: it goes on from step 20", "without": "n1", "evidence": "NVRM: Xid 79"}
}
BEGUN = {"time": 1.8e9, "run": "/r/tiny-1", "queued": None, "began": 1.8e9, "nodes": "n1", "last": None}
MARK = {"time": 1.8e9, "phase": "training", "step": 1}
METRIC = {"step": 5, "max_steps": 20, "time": 1764300000.0, "loss": 1.5}
WAITING = RUN | {
    "handle": "local://submitting:tiny-1",
    "run_dir": "/shared/runs/tiny-1",
    "status": {"state": "SUBMITTING"},
}
PROCESS = {"pid": 12345, "started": "678", "host": "login1"}
PROVENANCE = {"name": "tiny", "nnodes": 2, "nproc_per_node": 8, "launcher": "torchrun", "run_id": RUN["run_dir"]} | {
    **{"job_file": "job.yaml", "job_sha256": "", "set": [], "cluster": None, "pipeline": {"path": "p", "step": "s"}},
    **{"job": "name: tiny\ntrust_remote_code: true\n", "working_dir": "/shared", "executable": "/usr/bin/python3"},
}


def rows(*bases: Any) -> st.SearchStrategy[bytes]:
    """Lines of JSON, some with other values, some no JSON."""
    one = st.sampled_from(bases).flatmap(altered).map(text_of)
    return st.lists(one | damaged([text_of(base) for base in bases]), max_size=5).map(b"\n".join)


def at(name: str) -> Callable[[Path, Any], object]:
    """Lay the input down as a file of this name."""

    def prepare(folder: Path, value: Any) -> None:
        (folder / name).write_bytes(text_of(value))

    return prepare


def _record(folder: Path, value: Any) -> None:
    """A record with such rows, or such bytes in place of one."""
    os.environ["XDG_STATE_HOME"] = str(folder)
    (folder / "alignlaunch").mkdir()
    path = folder / "alignlaunch/runs.sqlite"
    if isinstance(value, bytes):
        path.write_bytes(value)
        return
    records.save([Run.from_json(RUN)])
    with sqlite3.connect(path) as database:
        for number, row in enumerate(value):
            text = text_of(row).decode(errors="replace")
            database.execute("INSERT INTO runs (handle, name, run) VALUES (?, 'tiny', ?)", (f"local://{number}", text))
    database.close()


def _use_record(_: Path, value: Any) -> None:
    del value
    for name in ("", "last", "tiny"):
        for run in states.find(name) if name else records.load(20):
            words.describe(run)
            tables.aligned(summary.table([run]))
            json.dumps(overview.as_json(overview.of(run, 0.0)))
            assert run.made({}) in (True, False)
            registry.of(run.scheme)


def _use_claim(folder: Path, value: Any) -> None:
    del value
    output = str(folder)
    found = claim.owner(output)
    run = Run.from_json(RUN | {"output_dir": output})
    claim.update(run)
    claim.release(run)
    if found:
        words.describe(found)
        registry.of(found.scheme)
        claim.take(run, found)
    raise claim.taken_error(found, output)


def _use_attempts(folder: Path, value: Any) -> None:
    del value
    found = attempts.read(folder)
    decide(Ended("xid", None, 1, 5, "n1"), [one.ended for one in found])
    summary.attempts(Run("slurm://lab/1", "tiny", str(folder), ""))
    attempts.add(folder, attempts.Recorded(1.0, Ended("xid", None, 1, 5), Decision(again=True, why=""), "x"))


def _use_bad_nodes(folder: Path, value: Any) -> None:
    del value
    file = folder / "bad_nodes.jsonl"
    for one in bad_nodes.read(file):
        nodes.line(one)
        assert one.node.isascii()
    bad_nodes.forget(file, "n17")


def _use_metrics(folder: Path, value: Any) -> None:
    del value
    (folder / ".run").write_text("/r/tiny-1")
    run = Run("slurm://lab/1", "tiny", "/r/tiny-1", "", str(folder), status=Status("RUNNING"))
    tables.aligned(summary.table([run]))
    summary.attempts(run)
    one = overview.of(run, 2e9)
    json.dumps(overview.as_json(one), allow_nan=False).encode()
    view = View()
    view.take(Seen([Watched(one, 1), Watched(one, 2)], [], 2e9))
    for _ in range(13):
        view.sort(1)
        Console(file=StringIO()).print(view.picture(80, 24))
    _compare(run, folder)


def _compare(run: Run, folder: Path) -> None:
    """What `compare` and `report` read and say."""
    found = [gather.one(run), gather.one(folder)]
    compared = comparison.compare(found)
    table.as_csv(compared, compared.rows).encode()
    table.plain(compared.rows, compared.shown).encode()
    json.dumps([comparison.as_json(row, compared) for row in compared.rows], allow_nan=False).encode()
    json.dumps(figures.of(found), allow_nan=False)
    for section in (sections.attempts, sections.shares, sections.data, sections.safety, sections.answers):
        section(found, ["a", "b"])
    sections.provenance(found, ["a", "b"])


def _use_provenance(folder: Path, value: Any) -> None:
    del value
    run = Run("slurm://lab/1", "tiny", str(folder), "", str(folder))
    advice.advice(provenance.read(folder), [])
    lines.selector(run, 0, None)
    lines.selector(run, None, 1)
    run.made(trained_folder.provenance(folder))
    found = trained.Trained(folder, trained_folder.provenance(folder))
    trained._python(found)
    config.trusts_remote_code(found.about.get("job", ""))
    trained._require_its_own(run, folder)
    _compare(run, folder)


def _use_process(folder: Path, value: Any) -> None:
    del value
    run = Run("local://tiny-1", "tiny", str(folder), "")
    processes.is_running(processes.read(folder / "process.json"))
    words.describe(run.with_status(registry.of("local").statuses([run])[run.handle]))


TARGETS = {
    "the record": Target(
        st.lists(damaged([text_of(RUN)]) | altered(RUN) | altered(WAITING), max_size=3)
        | damaged([b"SQLite format 3\0" + bytes(84)]),
        _use_record,
        _record,
    ),
    "claims": Target(damaged([text_of(CLAIM)]) | altered(CLAIM) | trees, _use_claim, at(claim.FILE)),
    "attempts": Target(rows(ATTEMPT), _use_attempts, at(attempts.FILE)),
    "faulty nodes": Target(rows(BAD), _use_bad_nodes, at("bad_nodes.jsonl")),
    "metrics": Target(rows(METRIC, METRIC | {"event": "started"}), _use_metrics, at("metrics.jsonl")),
    "timelines": Target(rows(BEGUN, MARK), _use_metrics, at("timeline.jsonl")),
    "run.json": Target(damaged([text_of(PROVENANCE)]) | altered(PROVENANCE), _use_provenance, at("run.json")),
    "provenance.json": Target(
        damaged([text_of(PROVENANCE)]) | altered(PROVENANCE), _use_provenance, at("provenance.json")
    ),
    "processes": Target(damaged([text_of(PROCESS)]) | altered(PROCESS), _use_process, at("process.json")),
    "exit codes": Target(damaged([b"0\n", b"143\n"]), lambda f, _: runfolder.exit_code(f), at("exit_code")),
    "flight recorder's dumps": Target(
        damaged([path.read_bytes() for path in DUMPS.glob("fr_rank_*")]),
        lambda folder, _: flight.report({0: folder / "fr_rank_0"}),
        at("fr_rank_0"),
    ),
    "torchelastic's error files": Target(
        damaged([b'{"message": {"message": "x", "extraInfo": {"py_callstack": "y", "timestamp": "1"}}}']),
        lambda folder, _: failures.of_error_file(folder / "error.json", 0, "a"),
        at("error.json"),
    ),
}
