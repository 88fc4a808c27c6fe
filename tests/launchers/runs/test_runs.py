"""The record of runs: kept, found, shared by processes, and never more important than the job."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import FINAL, Run, Status
from tests.conftest import Cli


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the record, in a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "alignlaunch" / "runs.sqlite"


def run(number: int, name: str = "tiny", **keys: object) -> Run:
    return Run(f"slurm://c/{number}", name, "/runs/1", "/runs/1/log", **keys)  # type: ignore[arg-type]


def test_saved_runs_are_found_by_handle_name_and_last() -> None:
    saved = [run(1, "a"), run(2, "b", output_dir="é", status=Status("FAILED", 9, "x", "n[0-1]")), run(3, "a")]
    records.save(saved)
    assert records.load() == saved[::-1]
    assert records.load(1) == [saved[2]]
    assert records.load(name="b") == [saved[1]]
    assert [records.find(text) for text in ("slurm://c/2", "a", "last", "slurm://c/9", "z")] == [
        [saved[1]], [saved[2]], [saved[2]], [], []
    ]  # fmt: skip


def test_the_runs_of_a_pipeline_are_found_together() -> None:
    once = [run(1, "sft", pipeline="both/1"), run(2, "rm", pipeline="both/1")]
    records.save(once)
    again = [run(3, "sft", pipeline="both/2"), run(4, "rm", pipeline="both/2")]
    records.save([*again, run(5, "both-x", pipeline="both-x/3")])
    assert [records.find(text) for text in ("both", "both/1", "sft", "slurm://c/1")] == [
        again,
        once,
        [again[0]],
        [once[0]],
    ]
    assert [records.find(text) for text in ("bot", "both/", "%", "*")] == [[], [], [], []]
    assert [found.id for found in records.find("last")] == ["5"]
    records.save([run(6, "both")])  # a job of that name, and the latest
    assert [found.id for found in records.find("both")] == ["6"]
    records.save([again[0].with_status(Status("COMPLETED", 0))])
    assert [found.status.state for found in records.find("both/2")] == ["COMPLETED", "UNKNOWN"]


def test_an_update_keeps_the_place_in_the_order() -> None:
    records.save([run(1), run(2)])
    records.save([run(1).with_status(Status("COMPLETED", 0))])
    assert [(found.id, found.status.state) for found in records.load()] == [("2", "UNKNOWN"), ("1", "COMPLETED")]


def test_nothing_is_recorded_and_asking_makes_no_file(record: Path) -> None:
    assert (records.load(), records.find("last")) == ([], [])
    assert not record.exists()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be looked at" * 10, b"SQLite format 3\0" + b"\xff" * 200]
)
def test_a_corrupt_record_is_said(record: Path, content: bytes, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    record.parent.mkdir(parents=True)
    record.write_bytes(content)
    with pytest.raises(UsageError, match=r"runs\.sqlite: the record of runs cannot be read(.|\n)*remedy"):
        records.load()
    done = cli("list", XDG_STATE_HOME=str(record.parent.parent))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    records.save([run(1)])  # the job runs all the same
    assert "keep the handle" in capsys.readouterr().err


@pytest.mark.parametrize("row", ["{", "[]", "{}", '{"handle": 1, "new": 2, "status": {}}', '{"status": 3}'])
def test_a_row_of_another_version_is_said(record: Path, row: str) -> None:
    records.save([run(1)])
    with sqlite3.connect(record) as database:
        database.execute("UPDATE runs SET run = ?", (row,))
    with pytest.raises(UsageError, match="the record of runs cannot be read"):
        records.load()


def test_a_row_of_before_0_1_is_read(record: Path) -> None:
    """The column of the pipeline was `chain` then; losing the rows would lose runs that are still going."""
    records.save([run(1, "sft", pipeline="both/1")])
    with sqlite3.connect(record) as database:
        database.execute("UPDATE runs SET run = replace(run, '\"pipeline\"', '\"chain\"')")
    assert records.load() == [run(1, "sft", pipeline="both/1")]


def test_a_home_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/state")
    records.save([run(1)])
    assert "warning: the record of runs cannot be written" in capsys.readouterr().err
    assert records.load() == []


def test_two_processes_write_at_once() -> None:
    program = (
        "import sys; from alignlaunch.launchers.runs import records\n"
        "for i in range(40): records.save([records.Run(f'slurm://{sys.argv[1]}/{i}', sys.argv[1], '', '')])"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, name], env=dict(os.environ), stderr=subprocess.PIPE)
        for name in ("a", "b")
    ]
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert {name: len(records.load(name=name)) for name in ("a", "b")} == {"a": 40, "b": 40}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status("COMPLETED", 0), 0),
        (Status("COMPLETED"), 0),
        (Status("FAILED", 7), 7),
        (Status("FAILED", 0), 1),
        (Status("CANCELLED"), 1),
        (Status("TIMEOUT", 0), 1),
    ],
)
def test_what_wait_exits_with(status: Status, code: int) -> None:
    assert status.process_code == code


def test_final_states_are_final_and_json_is_flat() -> None:
    assert all(Status(state).is_final for state in FINAL)
    assert not any(Status(state).is_final for state in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"))
    data = run(1, status=Status("FAILED", 7)).as_json()
    assert (data["handle"], data["state"], data["exit_code"]) == ("slurm://c/1", "FAILED", 7)
    assert "status" not in data
