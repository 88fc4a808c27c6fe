"""`list --name --since --state`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignlaunch.launchers import cli
from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.watch import chosen

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The names that `list OPTIONS --json` shows: three runs an hour apart from each other, the last just now."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for hours, name, state in ((2, "sft-a", "FAILED"), (1, "sft-b", "COMPLETED"), (0, "dpo", "FAILED")):
        when = (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="seconds")
        records.save([Run(f"local://{name}", name, str(tmp_path), "", submitted_at=when, status=Status(state))])

    def names(*options: str) -> list[str]:
        done = CliRunner().invoke(cli.main, ["list", "--json", *options])
        assert done.exit_code == 0, done.output
        return [run["name"] for run in json.loads(done.stdout)]

    return names


def test_options_narrow_the_list(listed: Callable[..., list[str]]) -> None:
    assert listed() == ["dpo", "sft-b", "sft-a"]
    assert listed("--name", "sft-*") == ["sft-b", "sft-a"]
    assert listed("--state", "failed") == ["dpo", "sft-a"]
    assert listed("--state", "FAILED", "--state", "COMPLETED", "-n", "2") == ["dpo", "sft-b"]
    assert listed("--since", "90m") == ["dpo", "sft-b"]
    assert listed("--since", "90m", "--state", "completed", "--name", "*") == ["sft-b"]


def test_a_run_whose_time_is_not_known_is_not_left_out() -> None:
    assert len(list(chosen.submitted([Run("slurm://a/1", "x", "", "")], since="1d"))) == 1


@pytest.mark.parametrize(
    ("text", "ago"),
    [("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("2d", timedelta(2)), ("1w", timedelta(7))],
)
def test_times_before_now(text: str, ago: timedelta) -> None:
    assert chosen.moment(text, NOW) == NOW - ago


def test_a_date_is_of_this_machines_zone() -> None:
    assert chosen.moment("2026-11-28", NOW) == datetime(2026, 11, 28).astimezone()
    assert chosen.moment("2026-11-28T10:00:00+00:00", NOW) == NOW - timedelta(hours=26)


@pytest.mark.parametrize("text", ["yesterday", "2", "2y", "-1d", "2026-13-01", "999999w"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        chosen.moment(text, NOW)


def test_the_list_shows_this_machines_time(listed: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        shown = CliRunner().invoke(cli.main, ["list", "--name", "dpo"]).stdout
        (when,) = (datetime.fromisoformat(run.submitted_at) for run in records.load(name="dpo"))
        assert f"{when + timedelta(hours=8):%Y-%m-%d %H:%M:%S}" in shown
    finally:
        monkeypatch.undo()
        time.tzset()
