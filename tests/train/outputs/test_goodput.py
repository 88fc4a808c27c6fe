"""Where the wall time of a run went: the parts, and that they add up whatever the timeline says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.train import finish
from alignlaunch.train.outputs import goodput, recording, timeline
from alignlaunch.train.processes import rendezvous

Line = dict[str, Any]


def begun(time: float, began: float, queued: float | None, last: Line | None = None, run: str = "a") -> Line:
    return {"time": time, "run": run, "queued": queued, "began": began, "nodes": "n[1-2]", "last": last}


def phases(*marks: tuple[float, str, int]) -> list[Line]:
    return [{"time": time, "phase": phase, "step": step} for time, phase, step in marks]


def end(time: float, step: int, outcome: str) -> Line:
    return {"time": time, "phase": "end", "step": step, "outcome": outcome}


def read(folder: Path, *lines: Line, run: str = "a") -> list[timeline.Attempt]:
    (folder / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return timeline.read(folder, run)


#: Queued at 0, begun at 100; trains from 140, saves at steps 10 and 20, evaluates at 20, is killed after step 25.
KILLED = [
    begun(110, 100, 0),
    *phases((120, "preparing data.train", 0), (130, "preparing the training", 0), (140, "training", 0)),
    *phases((240, "saving a checkpoint", 10), (245, "training", 10), (345, "evaluation", 20), (365, "training", 20)),
    *phases((365, "saving a checkpoint", 20), (370, "training", 20)),
]
LAST = {"time": 420.0, "step": 25, "max_steps": 30}
#: Queued again at 430, begun at 490; goes on from step 20 at 520, and ends at 640.
WENT_ON = [
    begun(500, 490, 430, LAST),
    *phases((505, "loading the model", 0), (520, "training", 20), (620, "the end of training", 30)),
    *phases((625, "saving the result", 30)),
    end(640, 30, "completed"),
]


def parts(found: goodput.Goodput | None) -> dict[str, float]:
    assert found is not None
    assert sum(found.seconds.values()) == pytest.approx(found.wall)
    return {part: seconds for part, seconds in found.seconds.items() if seconds}


def test_a_run_that_was_killed_and_went_on(tmp_path: Path) -> None:
    found = goodput.of(read(tmp_path, *KILLED, *WENT_ON))
    assert parts(found) == {
        "queue": 160,
        "start-up": 20,
        "preparation": 20,
        "training": 300,
        "saves": 30,
        "evaluation": 20,
        "lost steps": 50,
        "restarts": 40,
    }
    assert found is not None
    assert str(found).startswith("goodput 46.9 % of 0:10:40: queue 25.0 %, start-up 3.1 %, preparation 3.1 %, training")


def test_steps_are_lost_back_to_the_checkpoint_that_is_taken(tmp_path: Path) -> None:
    """The newest was broken; between two marks the step that is kept is found by its share of the steps."""
    older = [line | {"step": 5} if line.get("step") == 20 and line["time"] == 520 else line for line in WENT_ON]
    found = parts(goodput.of(read(tmp_path, *KILLED, *older)))
    assert (found["training"], found["lost steps"]) == (50 + 100, 50 + 100 + 50)
    assert found["saves"] == 30


def test_an_attempt_that_did_not_come_to_train_is_a_restart(tmp_path: Path) -> None:
    fails = [begun(422, 100, 0, LAST), *phases((424, "preparing data.train", 0)), end(426, 0, "failed")]
    found = parts(goodput.of(read(tmp_path, *KILLED, *fails, *WENT_ON)))
    assert (found["lost steps"], found["restarts"]) == (50, 10 + 30)


def test_a_stop_with_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    stopped = [*KILLED[:-2], end(370, 20, "stopped")]
    went_on = [begun(500, 490, 430, {"time": 369.0, "step": 20}), *WENT_ON[1:]]
    found = parts(goodput.of(read(tmp_path, *stopped, *went_on)))
    assert "lost steps" not in found
    assert found["restarts"] == (430 - 370) + 30


def test_a_restart_in_place_has_no_queue(tmp_path: Path) -> None:
    in_place = [begun(430, 100, 0, LAST), *phases((450, "training", 20)), end(500, 30, "completed")]
    found = parts(goodput.of(read(tmp_path, *KILLED, *in_place)))
    assert (found["queue"], found["restarts"]) == (100, 30)


def test_a_run_that_lives_ends_at_its_last_sign_of_life(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(LAST | {"loss": 1.0}) + '\n{"time": 430, "st')
    found = goodput.of(read(tmp_path, *KILLED))
    assert found is not None
    assert (found.end, parts(found)["training"]) == (420, 100 + 100 + 50)


def test_another_runs_lines_are_not_its_own(tmp_path: Path) -> None:
    other = [begun(5, 1, 0, run="b"), *phases((6, "training", 0)), end(9, 3, "completed")]
    attempts = read(tmp_path, *other, *KILLED, *other, *WENT_ON)
    assert [one.outcome for one in attempts] == ["", "completed"]
    assert goodput.of(read(tmp_path, *other)) is None
    assert goodput.of(timeline.read(tmp_path / "nowhere", "a")) is None


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    back = [line | {"time": line["time"] - 300} for line in WENT_ON]
    assert parts(goodput.of(read(tmp_path, *KILLED, *back)))


_VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))
_LINES = st.dictionaries(
    st.sampled_from(["time", "run", "queued", "began", "nodes", "last", "phase", "step", "outcome"]), _VALUES
)


@given(st.lists(st.one_of(_LINES, st.sampled_from([*KILLED, *WENT_ON]), _VALUES), max_size=12))
def test_any_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[Any]) -> None:
    """What was written by whomever is left out, and the rest adds up."""
    found = goodput.of(read(tmp_path_factory.getbasetemp(), *lines))
    if found is not None:
        assert sum(found.seconds.values()) == pytest.approx(found.wall, abs=1e-2)
        assert str(found)


@pytest.mark.parametrize(
    ("text", "expected"), [("200 100", (100.0, 200.0)), ("200 ", (None, 200.0)), ("200", (None, 200.0))]
)
def test_when_an_attempt_began(text: str, expected: tuple[float | None, float]) -> None:
    assert recording.began_at({recording.BEGAN: text}, "single") == expected


@pytest.mark.parametrize("text", ["", "x y", "5 N/A"])
def test_without_word_of_it_the_process_tells(text: str) -> None:
    import time

    queued, began = recording.began_at({recording.BEGAN: text}, "single")
    assert queued is None
    assert 0 <= time.time() - began < 86400


def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    one = recording.Recording()
    one.start(tmp_path / "file/output", rendezvous.read({}))
    one.end(finish.DONE)
    assert capsys.readouterr().err.count("no goodput is known of this run") == 1
