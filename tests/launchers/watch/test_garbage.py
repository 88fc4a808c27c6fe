"""`alignlaunch gc`: which folders of runs go, and which never."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.watch import garbage
from tests.conftest import Cli

DAY = 86400


def add(place: Path, name: str, state: str = "COMPLETED", days: float = 40) -> Path:
    """A local run of the record with a folder in which nothing was written for so many days."""
    folder = place / "runs" / name
    (folder / "sub").mkdir(parents=True)
    for file, text in {"run.json": '{"name": "a"}', "exit_code": "0\n"}.items():
        (folder / file).write_text(text)
    make_old(folder, days)
    output = place / "output"
    records.save([Run(f"local://{name}", name, str(folder), "", str(output), status=Status(state, 0))])
    return folder


def make_old(folder: Path, days: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - days * DAY,) * 2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def names(older_than: float = 30 * DAY) -> list[str]:
    return sorted(folder.path.name for folder in garbage.find(older_than)[0])


def test_what_ended_long_ago_goes_and_nothing_else(place: Path) -> None:
    add(place, "old")
    add(place, "failed", "FAILED")
    add(place, "young", days=2)
    add(place, "not-a-run").joinpath("run.json").unlink()
    add(place, "unknown", "UNKNOWN").joinpath("exit_code").unlink()
    (place / "link").symlink_to(add(place, "aim", days=1))
    records.save([Run("local://link", "link", str(place / "link"), "", status=Status("COMPLETED", 0))])
    assert names() == ["failed", "old"]
    assert names(DAY / 2) == ["aim", "failed", "old", "young"]


def test_a_late_word_in_the_log_keeps_it(place: Path) -> None:
    (add(place, "talks") / "sub/log").write_text("now")
    assert names() == []


def test_another_users_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(place, "theirs")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert names() == []


def test_an_array_goes_with_its_last_point(place: Path) -> None:
    whole = add(place, "swept-1")
    (whole / "array.sbatch").touch()
    make_old(whole, 40)
    records.forget("local://swept-1")  # it is no run
    for index, days in ((0, 40), (1, 2)):
        add(place, f"swept-1-{index}", days=days)
    assert names() == ["swept-1-0"]
    assert names(DAY) == ["swept-1", "swept-1-0", "swept-1-1"]
    assert whole.is_dir()


def test_it_is_a_dry_run_without_yes(cli: Cli, place: Path) -> None:
    folder = add(place, "old")
    (place / "output").mkdir()
    listed = cli("gc", XDG_STATE_HOME=str(place / "state"))
    assert (listed.returncode, "old" in listed.stdout, folder.is_dir()) == (0, True, True)
    assert "1 folders, 0.0 MiB would be removed: --yes does it" in listed.stderr
    assert cli("gc", "--yes", "--older-than", "60d", XDG_STATE_HOME=str(place / "state")).stdout == ""
    assert cli("gc", "--yes", XDG_STATE_HOME=str(place / "state")).returncode == 0
    assert (folder.exists(), (place / "output").is_dir()) == (False, True)
    assert cli("status", "old", XDG_STATE_HOME=str(place / "state")).stdout.count("COMPLETED") == 1
    assert cli("gc", "--older-than", "soon", XDG_STATE_HOME=str(place / "state")).returncode == 2
