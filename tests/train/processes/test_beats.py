"""Deadlines, and who is behind: small processes without torch, which their watchers end or leave alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alignlaunch.train import finish
from alignlaunch.train.processes import beats, hang
from alignlaunch.train.processes.beats import Beat, Beats
from alignlaunch.train.processes.hang import Report
from tests.train.conftest import environment

PROGRAM = """
import sys, time
from pathlib import Path
from alignlaunch.train.processes import rendezvous
from alignlaunch.train.processes.beats import beats
beats.start(rendezvous.read({{}}), Path(sys.argv[1]), {timeout})
{body}
"""
TURNS = "beats.begin('training')\nfor i in range(5): beats.turn(i)\n"


def end_of(tmp_path: Path, body: str, timeout: int = 2) -> tuple[int, str]:
    program = PROGRAM.format(timeout=timeout, body=body)
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_a_step_that_does_not_end(tmp_path: Path) -> None:
    code, said = end_of(tmp_path, f"{TURNS}time.sleep(60)")
    assert code == finish.HUNG
    assert "hang: rank 0 on " in said
    assert "no progress after step 4 (training) for " in said


@pytest.mark.parametrize(
    ("body", "timeout"),
    [
        (f"{TURNS}beats.begin('saving')\ntime.sleep(5)", 2),
        (f"{TURNS}\nwith beats.within('saving'): time.sleep(5)", 2),
        (f"{TURNS}\nwith beats.waiting(): time.sleep(5)", 2),
        (f"{TURNS}\nfor _ in range(6): time.sleep(0.8); beats.alive()", 2),
        (f"{TURNS}time.sleep(5)", 0),
    ],
    ids=["long phase", "long phase within", "waiting", "slow", "off"],
)
def test_what_is_alive_is_left_alone(body: str, timeout: int, tmp_path: Path) -> None:
    assert end_of(tmp_path, body, timeout) == (0, "")
    assert not (tmp_path / hang.STACKS).exists()


def limits(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> list[float]:
    """The deadlines after turns that take so many seconds."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    made, found = Beats(), []
    made.begin("training", beats.FIRST)
    for each in seconds:
        now += each
        made.turn()
        found.append(Beat.read(made._memory).limit)  # type: ignore[arg-type]
    return found


def test_the_deadline_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits(monkeypatch, [900, 60, 50, 60]) == [beats.FIRST, beats.FIRST, 600, 600]
    assert limits(monkeypatch, [1, 1, 1, 1]) == [beats.FIRST, beats.FIRST, beats.FLOOR, beats.FLOOR]


def test_a_save_is_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    made = Beats()
    made.begin("training", beats.FIRST)
    for _ in range(5):
        with made.within("saving"):
            now += 1000
            assert Beat.read(made._memory).limit == beats.LONG  # type: ignore[arg-type]
        now += 50
        made.turn()
    assert Beat.read(made._memory).limit == 500  # type: ignore[arg-type]


def report(rank: int, place: int, file: str = "/a/user.py", **facts: object) -> Report:
    stacks = f'Current thread 0x1 (most recent call first):\n  File "{file}", line 3 in f'
    made = Report(
        rank=rank,
        host="n",
        pid=1,
        phase="training",
        step=7,
        place=place,
        seconds=300,
        limit=300,
        state="S (sleeping)",
        waiting=False,
        stacks=stacks,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


WAITS = "/v/site-packages/torch/distributed/distributed_c10d.py"


@pytest.mark.parametrize(
    ("reports", "ranks"),
    [
        ([report(0, 9), report(1, 8), report(2, 9)], [1]),
        ([report(0, 9, WAITS), report(1, 9), report(2, 9, WAITS)], [1]),
        ([report(0, 9), report(1, 9, waiting=True), report(2, 9, waiting=True)], [0]),
        ([report(0, 9), report(1, 9), report(2, 9, state="T (stopped)")], [2]),
        ([report(0, 9), report(2, 3)], [1]),
        ([report(0, 9, WAITS), report(1, 9, WAITS), report(2, 9, WAITS)], [0, 1, 2]),
    ],
    ids=["fewer beats", "not in a collective", "not waiting", "stopped", "no answer", "all wait"],
)
def test_who_is_behind(reports: list[Report], ranks: list[int]) -> None:
    assert hang.behind(reports, range(3)) == ranks


def test_nobody_is_ended_while_the_one_behind_is_in_time() -> None:
    """The others' deadline may be shorter, such as while one of them saves."""
    late = [report(0, 9), report(1, 8, seconds=300, limit=7200)]
    assert not hang.are_overdue(hang.behind(late, range(2)), late)


def test_a_report_is_read_as_written(tmp_path: Path) -> None:
    written = [report(0, 9), report(1, 8, stacks="")]
    for one in written:
        one.write(tmp_path)
    assert hang.read(tmp_path) == written
