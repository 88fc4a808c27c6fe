"""The attempts of a run as `status` tells them: what its processes recorded, and what was decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alignlaunch.launchers.cli import main, summary
from alignlaunch.launchers.diagnose.patterns import Retry
from alignlaunch.launchers.retry import attempts, history
from alignlaunch.launchers.retry.attempts import Recorded
from alignlaunch.launchers.retry.decision import Decision, Ended
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status


def begin(time: float, nodes: str, last: Any = None) -> dict[str, Any]:
    return {"time": time, "run": "RUN", "queued": time - 60, "began": time - 10, "nodes": nodes, "last": last}


#: Killed after step 25, for which n1 is blamed; stopped at step 40; in its third attempt.
TIMELINE: list[dict[str, Any]] = [
    begin(100, "n[1-2]"),
    {"time": 140, "phase": "training", "step": 0},
    {"time": 240, "phase": "saving a checkpoint", "step": 20},
    {"time": 245, "phase": "training", "step": 20},
    begin(500, "n[2-3]", {"time": 270.0, "step": 25}),
    {"time": 540, "phase": "training", "step": 20},
    {"time": 740, "phase": "end", "step": 40, "outcome": "stopped"},
    begin(1000, "n[2-3]"),
    {"time": 1040, "phase": "training", "step": 40},
    {"time": 1140, "phase": "saving a checkpoint", "step": 50},
]
KILLED = Recorded(280.0, Ended("xid", Retry.ELSEWHERE, 1, 20, "n1"), Decision(True, "xid: why", "n1"), "a.out:3: Xid")
#: Between the second attempt and the third, one died before it began to record.
EARLY = Recorded(800.0, Ended("preflight", Retry.AGAIN, 3, 40), Decision(True, "preflight: why"), "?")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder, output = tmp_path / "runs/a", tmp_path / "output"
    folder.mkdir(parents=True)
    output.mkdir()
    lines = [line | ({"run": str(folder)} if "run" in line else {}) for line in TIMELINE]
    (output / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for one in (KILLED, EARLY):
        attempts.add(folder, one)
    return Run("slurm://c/7", "a", str(folder), "", output_dir=str(output), status=Status("RUNNING"))


def test_attempts_are_joined_with_what_was_decided(run: Run) -> None:
    assert history.read(run) == [
        history.Past(100, 270, "xid", "n[1-2]", "n1", (0, 25), "tried again, without n1"),
        history.Past(500, 740, "stopped", "n[2-3]", steps=(20, 40)),
        history.Past(None, 800, "preflight", "", then="tried again"),
        history.Past(1000, None, "", "n[2-3]", steps=(40, 50)),
    ]


def test_the_last_attempt_has_ended_with_its_run(run: Run) -> None:
    last = history.read(replace(run, status=Status("CANCELLED", 143)))[-1]
    assert (last.end, last.cause) == (1140, "cut off")


def test_without_the_output_folder_the_decisions_remain(run: Run) -> None:
    found = history.read(replace(run, output_dir="/nowhere"))
    assert [(one.start, one.end, one.cause) for one in found] == [(None, 280, "xid"), (None, 800, "preflight")]
    assert history.goodput(replace(run, output_dir="/nowhere")) is None
    assert history.read(replace(run, run_dir="")) == []


def test_the_table(run: Run) -> None:
    header, *rows = summary.attempts(run).splitlines()
    assert header.split() == ["ATTEMPT", "START", "END", "CAUSE", "NODES", "STEPS", "THEN"]
    assert [row[header.index("CAUSE") :].split() for row in rows] == [
        ["xid", "(n1)", "n[1-2]", "0", "to", "25", "tried", "again,", "without", "n1"],
        ["stopped", "n[2-3]", "20", "to", "40"],
        ["preflight", "tried", "again"],
        ["n[2-3]", "40", "to", "50"],
    ]


def test_goodput_in_a_table_and_as_json(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that has ended for good, so that no scheduler is asked."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    local = replace(run, handle="local://a", status=Status("COMPLETED", 0))
    records.save([local])
    said = CliRunner().invoke(main, ["status", "local://a", "--goodput"]).output
    assert "\na: goodput 36.4 % of 0:18:20, until 1970-01-01" in said
    table = said[said.index("PART") :].splitlines()
    assert [line.split()[0] for line in table[1:]] == [
        *("queue", "start-up", "preparation", "training", "saves", "evaluation", "lost", "restarts")
    ]
    (told,) = json.loads(CliRunner().invoke(main, ["status", "local://a", "--goodput", "--json"]).output)
    parts = told["goodput"]["seconds"]
    assert sum(parts.values()) == pytest.approx(told["goodput"]["wall"])
    assert (parts["training"], parts["lost steps"]) == (100 + 200 + 100, 25)
    assert [one["steps"] for one in told["attempts"]] == [[0, 25], [20, 40], None, [40, 50]]
    (plain,) = json.loads(CliRunner().invoke(main, ["status", "local://a", "--json"]).output)
    assert "goodput" not in plain


def test_goodput_that_is_not_seen_from_here(run: Run) -> None:
    assert "goodput is not known" in summary.goodput(replace(run, output_dir="/nowhere"))
    assert history.as_json(replace(run, output_dir="/nowhere"), with_goodput=True)["goodput"] is None
