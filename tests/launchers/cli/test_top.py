"""`top` in a real terminal, over real runs of this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignlaunch.launchers.results.watched import Look
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from tests.launchers.submit.stub_runs import submit
from tests.launchers.submit.stub_steps import call, environment, make_place, status, until
from tests.support import tmux
from tests.support.command import ALIGNLAUNCH
from tests.support.terminal import Terminal, terminal

ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with two runs: first `high`, then `low`."""
    make_place(tmp_path)
    submit(tmp_path, "high", [3.0, 2.75, 2.5])
    submit(tmp_path, "low", [0.5, 0.25, 0.125])
    yield tmp_path
    for name in ("high", "low"):
        if status(tmp_path, name)[0][1] == "RUNNING":
            call(tmp_path, "cancel", name)


@pytest.fixture
def shown(place: Path) -> Iterator[Terminal]:
    """`top`, with both runs on the screen."""
    with terminal([*ALIGNLAUNCH, "top", "--interval", "1"], place, environment(place)) as one:
        before = one.settings()
        one.until(lambda screen: len(rows(screen)) == 2 and all("RUNNING" in row for row in rows(screen)))
        yield one
        assert one.settings() == before
        assert one.read().count(ALTERNATE) == one.read().count(BACK)
        assert "Traceback" not in one.text()


def rows(screen: list[str]) -> list[str]:
    return [line for line in screen if line.startswith("│")]


def names(screen: list[str]) -> list[str]:
    return [row.split()[1] for row in rows(screen)]


def test_rows_sorting_and_q(shown: Terminal) -> None:
    screen = shown.screen()
    assert names(screen) == ["low", "high"]  # the newest first
    assert rows(screen)[1].replace("│", " ").split()[:8] == [
        *("high", "RUNNING", "1", "3/9", "2.5", "1234", "41.3%", "0:00:06")
    ]
    shown.press("sssss")  # name, state, attempt, step, loss
    shown.until(lambda screen: names(screen) == ["low", "high"] and any("LOSS ▲" in line for line in screen))
    shown.press("r")
    shown.until(lambda screen: names(screen) == ["high", "low"] and any("LOSS ▼" in line for line in screen))
    shown.press("q")
    assert shown.process.wait(30) == 0


def test_cancel_asks_first(shown: Terminal, place: Path) -> None:
    shown.press("\x1b[B")  # down, to `high`
    shown.until(lambda screen: any(line.startswith("local://high-") for line in screen))
    shown.press("c")
    shown.until(lambda screen: any(line.startswith("Cancel local://high-") for line in screen))
    shown.press("n")
    shown.until(lambda screen: any("was not cancelled" in line for line in screen))
    assert [status(place, name)[0][1] for name in ("high", "low")] == ["RUNNING", "RUNNING"]
    shown.press("cy")
    shown.until(lambda screen: any("CANCELLED" in row for row in rows(screen)))
    assert [status(place, name)[0][1] for name in ("high", "low")] == ["CANCELLED", "RUNNING"]
    shown.press("c")
    shown.until(lambda screen: any("has ended" in line for line in screen))
    shown.press("q")
    assert shown.process.wait(30) == 0


def test_a_log_and_back(shown: Terminal) -> None:
    shown.press("l")
    shown.until(lambda screen: "sleep" in screen)
    shown.press("q")
    shown.until_written(lambda text: text.count(ALTERNATE) == 2)  # before, Ctrl-C would only end the log
    shown.press("\x03")
    assert shown.process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(shown: Terminal, number: int) -> None:
    shown.process.send_signal(number)
    assert shown.process.wait(30) == 128 + number


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(shown: Terminal) -> None:
    shown.press("\x1a")
    shown.until_written(lambda text: text.count(BACK) == 1)
    shown.process.send_signal(signal.SIGCONT)
    shown.until_written(lambda text: text.count(ALTERNATE) == 2)
    shown.press("q")
    assert shown.process.wait(30) == 0


def test_without_a_terminal_it_says_what_to_do(tmp_path: Path) -> None:
    said = call(tmp_path, "top", code=2).stderr
    assert said == "alignlaunch: error: top: needs a terminal\n    remedy: alignlaunch list\n"


def test_a_place_that_does_not_answer_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    records.save([Run("k8s://gone/lab/a", "far", "", "", status=Status("RUNNING"))])
    env = environment(tmp_path, KUBECONFIG="/no")
    with terminal([*ALIGNLAUNCH, "top"], tmp_path, env) as one:
        screen = one.until(lambda screen: any("last known states: no kubeconfig" in line for line in screen))
        assert "far" in names(screen)
        assert "Traceback" not in one.text()
        one.press("q")
        assert one.process.wait(30) == 0


def test_a_place_that_takes_long_holds_no_key_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    records.save([Run("slurm://c/1", "slow", "", "", status=Status("RUNNING"))])
    (tmp_path / "bin").mkdir()
    for command in ("squeue", "scontrol", "sacct"):
        (tmp_path / "bin" / command).write_text(f"#!/bin/bash\n: > {tmp_path}/asked\nexec sleep 20\n")
        (tmp_path / "bin" / command).chmod(0o755)
    env = environment(tmp_path, PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    with terminal([*ALIGNLAUNCH, "top"], tmp_path, env) as one:
        one.until(lambda screen: screen[0].endswith("asking ..."))
        until((tmp_path / "asked").exists)
        begun = time.monotonic()
        one.press("q")
        assert one.process.wait(30) == 0
        assert time.monotonic() - begun < 15  # and not the 20 s of the question


def test_a_defect_gives_the_terminal_back(tmp_path: Path) -> None:
    program = (
        "from alignlaunch.launchers.cli import top_session\n"
        "top_session.Look.__call__ = lambda self: 1 / 0\n"
        "top_session.watch(None, (), 1, 1)\n"
    )
    with terminal([sys.executable, "-c", program], tmp_path, environment(tmp_path)) as one:
        before = one.settings()
        one.until_written(lambda text: "ZeroDivisionError" in text)
        assert one.process.wait(30) == 1
        assert one.settings() == before
        assert ALTERNATE in one.read().partition(BACK)[0]
        assert "ZeroDivisionError" in one.read().rpartition(BACK)[2]


def test_what_ended_long_ago_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, age in (("old", 3700), ("new", 3500)):
        folder = tmp_path / name
        folder.mkdir()
        code = folder / "exit_code"
        code.write_text("0\n")
        os.utime(code, (time.time() - age, time.time() - age))
        records.save([Run(f"local://{name}", name, str(folder), "", status=Status("COMPLETED", 0))])
    seen = Look(None, (), 10)()
    assert [row.run.name for row in seen.rows] == ["new"]
    assert Look(None, ("failed",), 10)().rows == []
    assert Look("o*", (), 10)().rows == []


def test_in_tmux(place: Path) -> None:
    tmux.require()
    with tmux.session(place, environment(place)) as one:
        one.type(f"clear; echo before; {' '.join(ALIGNLAUNCH)} top --interval 1", "Enter")
        one.until(lambda screen: names(screen) == ["low", "high"])
        one.type("s", "r")  # by name, from the last
        one.until(lambda screen: any("NAME ▼" in line for line in screen) and names(screen) == ["low", "high"])
        one.type("r")
        one.until(lambda screen: names(screen) == ["high", "low"])
        one.type("Up", "c")  # the selection stayed on `low`
        one.until(lambda screen: any(line.startswith("Cancel local://high-") for line in screen))
        one.type("y")
        one.until(lambda screen: any("high" in row and "CANCELLED" in row for row in rows(screen)))
        one.type("q")
        one.until(lambda screen: screen[0] == "before" and screen[1] == "$")
        one.type("echo $((40 + 2))", "Enter")  # what is typed is seen again
        assert one.until(lambda screen: "42" in screen)[1] == "$ echo $((40 + 2))"
