"""`alignlaunch compare`: what differs, final and best, sorted; and what is said where a run shows nothing."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alignlaunch.launchers.results import gather
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from tests.conftest import Cli
from tests.support import results
from tests.support.results import line


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two runs that differ in their learning rate; the first is better at its best, the second at its end."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home/.local/state"))
    losses = {"slow": (3.0, 1.0, 2.0), "fast": (3.0, 1.5, 1.75)}
    return [
        results.write(
            tmp_path,
            name,
            [
                *(line(step, 3, loss=loss, tokens_per_second=100.0 * step) for step, loss in enumerate(found, start=1)),
                line(3, 3, **{"eval_loss": found[-1], "eval_rewards/accuracies": 0.5, "memory_peak_gib": 2}),
            ],
            train={"learning_rate": rate, "seed": 1},
        )
        for (name, found), rate in zip(losses.items(), (1e-5, 2e-5), strict=True)
    ]


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_table_of_what_differs_and_what_came_of_it(runs: list[Run], cli: Cli) -> None:
    done = cli("compare", "slow", "fast")
    assert (done.returncode, done.stderr) == (0, "")
    accuracies = ["eval_rewards/accuracies", "eval_rewards/accuracies.best"]
    header = ["run", "state", "train.learning_rate", "step", "loss", "eval_loss", "eval_loss.best", *accuracies]
    header += ["tokens/s", "memory", "GiB", "goodput", "%"]
    assert words(done.stdout) == [
        header,
        ["slow", "COMPLETED", "1e-05", "3", "2", "2", "2", "0.5", "0.5", "200", "2", "84.2"],
        ["fast", "COMPLETED", "2e-05", "3", "1.75", "1.75", "1.75", "0.5", "0.5", "200", "2", "84.2"],
    ]


@pytest.mark.parametrize(
    ("column", "first"),
    [
        *(("loss", "fast"), ("loss.best", "slow"), ("run", "fast"), ("train.learning_rate", "slow")),
        *(("eval_rewards/accuracies", "slow"), ("tokens/s", "slow"), ("handle", "fast")),
    ],
)
def test_sorted_by_any_column(runs: list[Run], cli: Cli, column: str, first: str) -> None:
    header, row, _ = words(cli("compare", "slow", "fast", "--sort", column).stdout)
    assert row[0] == first
    assert column in header


def test_a_column_that_is_none_is_told_with_those_that_are(runs: list[Run], cli: Cli) -> None:
    done = cli("compare", "slow", "--sort", "los")
    assert done.returncode == 2
    assert "--sort los: no such column" in done.stderr
    assert "loss.best" in done.stderr


def test_json_and_csv_have_every_metric(runs: list[Run], cli: Cli) -> None:
    first, second = json.loads(cli("compare", "slow", "fast", "--json").stdout)
    assert first["name"] == "slow"
    assert first["handle"] == runs[0].handle
    assert first["job"] == {"train.learning_rate": "1e-05"}
    assert first["metrics"]["loss"] == {
        "count": 3,
        "last": {"step": 3, "value": 2.0},
        "best": {"step": 2, "value": 1.0},
    }
    assert (second["step"], second["max_steps"], second["tokens_per_second"], second["memory_peak_gib"]) == (
        3,
        3,
        200,
        2,
    )
    assert 0 < second["goodput"]["goodput"] < 1
    table = list(csv.DictReader(io.StringIO(cli("compare", "slow", "fast", "--csv").stdout)))
    assert [row["loss.best"] for row in table] == ["1.0", "1.5"]
    assert table[0]["handle"] == runs[0].handle


def test_a_metric_that_is_no_number_is_said(runs: list[Run], cli: Cli) -> None:
    path = Path(runs[0].output_dir, "metrics.jsonl")
    path.write_text(line(1, 2, loss=3.0) + "\n" + line(2, 2, loss=math.nan) + "\nnonsense\n")
    done = cli("compare", "slow", "--json")
    (found,) = json.loads(done.stdout)
    assert found["metrics"]["loss"]["last"] == {"step": 2, "value": None}
    assert found["notes"] == [
        "loss is no number in 1 of 2 records, first after step 2",
        "1 lines of its metrics.jsonl are no records",
    ]
    assert "loss is no number" in done.stderr
    header, slow, fast = words(cli("compare", "slow", "fast", "--sort", "loss").stdout)
    assert (slow[0], fast[0]) == ("fast", "slow")
    assert fast[header.index("loss")] == "nan"


def test_a_run_that_shows_nothing_says_why(runs: list[Run], cli: Cli) -> None:
    for run in runs:
        shutil.rmtree(run.output_dir)
    shutil.rmtree(runs[1].run_dir)
    done = cli("compare", "slow", "fast")
    assert done.returncode == 0
    assert f"there is no {runs[0].output_dir}" in done.stderr
    assert "its job is not known" in done.stderr
    assert words(done.stdout)[1:] == [["slow", "COMPLETED"], ["fast", "COMPLETED"]]


def test_another_runs_records_are_not_shown_as_its_own(runs: list[Run], cli: Cli) -> None:
    Path(runs[0].output_dir, ".run").write_text("/runs/another")
    done = cli("compare", "slow", "--json")
    assert "is of another run" in done.stderr
    assert json.loads(done.stdout)[0]["metrics"] == {}


def test_results_that_a_later_run_moved_aside_are_found(runs: list[Run], cli: Cli) -> None:
    output = Path(runs[0].output_dir)
    aside = output / "previous-20261129-120000-ab"
    aside.mkdir()
    (output / "metrics.jsonl").rename(aside / "metrics.jsonl")
    (aside / "provenance.json").write_text(json.dumps({"run_id": runs[0].run_dir}))
    (output / ".run").write_text("/runs/another")
    (output / "metrics.jsonl").write_text(line(1, 3, loss=77.0) + "\n")
    (found,) = json.loads(cli("compare", "slow", "--json").stdout)
    assert found["folder"] == str(aside)
    assert found["metrics"]["loss"]["last"]["value"] == 2.0


def test_a_pipelines_name_is_all_its_runs(runs: list[Run], cli: Cli) -> None:
    for run in runs:
        records.replace_row(run.handle, replace(run, pipeline="both/1"))
    found = json.loads(cli("compare", "both", "slow", "--json").stdout)
    assert [one["name"] for one in found] == ["slow", "fast"]


def test_a_trained_folder_from_elsewhere(runs: list[Run], cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(runs[0].output_dir, folder)
    about = {"run_id": runs[0].run_dir, "job": Path(runs[0].run_dir, "job.resolved.yaml").read_text()}
    (folder / "provenance.json").write_text(json.dumps(about))
    first, second = json.loads(cli("compare", "copied", "fast", "--json").stdout)
    assert (first["name"], first["handle"]) == ("copied", str(folder))
    assert first["job"] == {"train.learning_rate": "1e-05"}
    assert first["goodput"] == second["goodput"]


def test_a_name_that_is_none(cli: Cli) -> None:
    done = cli("compare", "nothing")
    assert done.returncode == 2
    assert "no run of a job or pipeline named 'nothing'" in done.stderr


@pytest.mark.parametrize("damage", ["[", "a: [1]\n\tb: 2", "- 1", ""])
def test_a_job_that_cannot_be_read(runs: list[Run], cli: Cli, damage: str) -> None:
    Path(runs[0].run_dir, "job.resolved.yaml").write_text(damage)
    done = cli("compare", "slow", "fast")
    assert done.returncode == 0
    assert "job.resolved.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_records_that_may_not_be_read(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, as root's tests cannot have them."""

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "metrics.jsonl")

    monkeypatch.setattr("alignlaunch.launchers.results.records.read", refuse)
    assert gather.one(runs[0]).notes == ["metrics.jsonl: Permission denied"]


def test_many_long_files_are_read_by_several_processes(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    few = gather.read([*runs])
    monkeypatch.setattr(gather, "_MUCH", 0)
    assert gather.read([*runs]) == few


def test_a_terminal_has_a_table_with_colour(runs: list[Run], tmp_path: Path) -> None:
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    env.pop("NO_COLOR", None)
    shown = {}
    for colour in ({}, {"NO_COLOR": "1"}):
        done = subprocess.run(
            ["script", "-qec", f"{sys.executable} -m alignlaunch.launchers.cli compare slow fast", "/dev/null"],
            env=env | colour,
            capture_output=True,
            text=True,
            check=True,
        )
        shown[bool(colour)] = done.stdout
        assert "train.learning_rate" in done.stdout
        assert "│" in done.stdout
    assert "\x1b[32mCOMPLETED" in shown[False]
    assert "\x1b[32m" not in shown[True]


@pytest.mark.parametrize(("width", "turned", "left_out"), [(200, False, False), (70, True, False), (40, False, True)])
def test_a_table_that_is_too_wide_for_the_terminal(runs: list[Run], width: int, turned: bool, left_out: bool) -> None:
    """It is turned, or what has no room is named; no line is broken."""
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(width), "NO_COLOR": "1"}
    command = ["script", "-qec", f"{sys.executable} -m alignlaunch.launchers.cli compare slow fast", "/dev/null"]
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    drawn = [text for text in printed if "│" in text]
    assert len(drawn) == (11 if turned else 2)
    assert all(len(text) <= width for text in drawn)
    assert any("too wide for this terminal" in text and "goodput %" in text for text in printed) is left_out


def test_what_others_wrote_cannot_reach_the_terminal(runs: list[Run], cli: Cli) -> None:
    with Path(runs[0].output_dir, "metrics.jsonl").open("a") as file:
        file.write(line(3, 3, **{"eval_\x1b]0;x\x07loss": 1.0}) + "\n")
    for option in ((), ("--csv",), ("--json",)):
        assert "\x1b" not in cli("compare", "slow", *option).stdout


def test_a_picture(runs: list[Run], cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = cli("compare", "slow", "fast", "--png", "curves.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    done = cli("compare", "slow", "--png", "curves.nothing")
    assert done.returncode == 2
    assert "end its name with .png" in done.stderr


def test_a_picture_of_nothing(runs: list[Run], cli: Cli) -> None:
    pytest.importorskip("matplotlib")
    Path(runs[0].output_dir, "metrics.jsonl").write_text("")
    done = cli("compare", "slow", "--png", "curves.png")
    assert done.returncode == 2
    assert "no curve to draw" in done.stderr


def test_a_run_of_the_cluster_says_where_its_files_are(runs: list[Run]) -> None:
    far = replace(runs[0], handle="k8s://context/namespace/slow", status=Status("COMPLETED"))
    assert gather.one(far).notes[0].startswith("its files lie in the cluster")
