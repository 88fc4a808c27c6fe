"""`list` and `status` as tables: in a pipe, on a terminal, and on a narrow one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from tests.support.command import ALIGNLAUNCH
from tests.support.terminal import terminal

RED = "\x1b[31m"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a record with four local runs that failed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = []
    for number in range(1, 5):
        folder = tmp_path / "runs" / f"a-{number}"
        folder.mkdir(parents=True)
        (folder / "exit_code").write_text("1\n")
        (folder / "run.json").write_text('{"nnodes": 2, "nproc_per_node": 4}')
        status = Status("FAILED", 1)
        found.append(Run(f"local://a-{number}", "a", str(folder), "", f"/out/{number}", status=status))
    records.save(found)
    return dict(os.environ)


def shown(cwd: Path, env: dict[str, str], *arguments: str, columns: int) -> str:
    with terminal([*ALIGNLAUNCH, *arguments], cwd, env, (40, columns)) as one:
        assert one.process.wait(60) == 0, one.text()
        return one.read()


def test_in_a_pipe_it_is_plain_aligned_text(tmp_path: Path, env: dict[str, str]) -> None:
    for command, ends in (("list", "ELAPSED  GPUS"), ("status", "GPUS  OUTPUT")):
        done = subprocess.run(
            [*ALIGNLAUNCH, command], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        header, *lines = done.stdout.splitlines()
        assert header.split()[:6] == ["RUN", "NAME", "STATE", "EXIT", "STEP", "LEFT"]
        assert header.endswith(ends)
        assert lines[0].split()[:4] == ["local://a-4", "a", "FAILED", "1"]
        assert lines[0][header.index("GPUS") :].split()[0] == "2x4"
        assert "\x1b" not in done.stdout


def test_on_a_terminal_states_have_colours_unless_no_color(tmp_path: Path, env: dict[str, str]) -> None:
    assert RED in shown(tmp_path, env, "list", columns=200)
    assert RED not in shown(tmp_path, env | {"NO_COLOR": "1"}, "list", columns=200)


def test_on_a_narrow_terminal_it_says_what_is_left_out(tmp_path: Path, env: dict[str, str]) -> None:
    text = shown(tmp_path, env, "list", columns=60)
    assert "FAILED" in text
    assert "too wide for this terminal, and in a pipe: EXIT, " in text
    assert all(len(line) <= 60 for line in text.replace("\r", "").splitlines() if line.endswith("│"))


def test_one_run_on_a_narrow_terminal_is_turned(tmp_path: Path, env: dict[str, str]) -> None:
    text = shown(tmp_path, env, "status", "local://a-1", columns=60)
    assert "/out/1" in text
    assert "too wide" not in text
