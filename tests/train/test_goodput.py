"""The goodput of a real run that is killed and goes on, against a clock outside of it; and what is told of runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from alignlaunch.train.outputs import goodput, timeline
from tests.support.waiting import until

from .conftest import Runner
from .test_restarts import LORA, TRAIN, nodes, processes, wait_for


def lines(folder: Path) -> list[dict[str, object]]:
    path = folder / "timeline.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


#: Appends each message to a file in the job's folder.
COMMAND = ["sh", "-c", "cat >> told-$0.jsonl; echo >> told-$0.jsonl"]


def told(workplace: Path, name: str) -> list[tuple[str, str, int]]:
    """The state, cause and step of each message, in their order."""
    lines = (workplace / f"told-{name}.jsonl").read_text().splitlines()
    return [(one["state"], one["cause"], one["step"]) for one in map(json.loads, filter(None, lines))]


def test_the_parts_of_a_run_that_was_killed_add_up_to_its_wall_time(workplace: Path) -> None:
    name, train = "goodput", TRAIN | {"eval_strategy": "steps", "eval_steps": 10}
    data = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
    output = workplace / "out" / name
    begin = time.time()
    notify = {"command": [*COMMAND, name]}
    with nodes(workplace, name, 1, 2, train=train, data=data, lora=LORA, notify=notify) as (node,):
        wait_for(workplace, name, "/40 | loss", 11)
        processes(node)[0].kill()
        until(lambda: any("outcome" in line for line in lines(output)), 120)
        assert node.wait(60) == 0
    end = (output / "timeline.jsonl").stat().st_mtime  # the kernel's clock, at the last line
    recorded = lines(output)
    assert sum("run" in line for line in recorded) == 2
    assert len(recorded) < 60  # none for a step
    attempts = timeline.read(output, str(recorded[0]["run"]))
    killed, went_on = attempts
    assert (killed.outcome, went_on.outcome, went_on.ended.step) == ("", "completed", 40)
    assert went_on.trains_from is not None
    found = goodput.of(attempts)
    assert found is not None
    assert found.wall == pytest.approx(end - begin, rel=0.01)
    assert sum(found.seconds.values()) == pytest.approx(end - begin, rel=0.01)
    assert found.seconds["queue"] == 0
    assert bool(found.seconds["lost steps"]) == (killed.ended.step > went_on.trains_from)
    for part in ("start-up", "preparation", "training", "saves", "evaluation", "restarts"):
        assert found.seconds[part] > 0, part
    assert f"alignlaunch: {found}" in (workplace / f"{name}.log").read_text()
    step = went_on.trains_from
    assert told(workplace, name) == [("started", "", 0), ("resumed", "cut off", step), ("completed", "", 40)]


def test_two_nodes_tell_of_a_failure_once(workplace: Path) -> None:
    data, notify = {"train": ["nowhere.jsonl"]}, {"command": [*COMMAND, "fails"]}
    with nodes(workplace, "fails", 2, 1, data=data, notify=notify) as agents:
        assert 0 not in [node.wait(60) for node in agents]
    assert told(workplace, "fails") == [("failed", "exit code 1", 0)]


def test_one_process_tells_of_its_failure_itself(run_job: Runner, workplace: Path) -> None:
    done = run_job("alone", data={"train": ["nowhere.jsonl"]}, notify={"command": [*COMMAND, "alone"]})
    assert done.code == 2
    assert told(workplace, "alone") == [("failed", "exit code 2", 0)]
