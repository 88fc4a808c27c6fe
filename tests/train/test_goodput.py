"""The goodput of a real run that is killed and goes on, against a clock outside of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from alignlaunch.train.outputs import goodput, timeline
from tests.support.waiting import until

from .test_restarts import LORA, TRAIN, nodes, processes, wait_for


def lines(folder: Path) -> list[dict[str, object]]:
    path = folder / "timeline.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_parts_of_a_run_that_was_killed_add_up_to_its_wall_time(workplace: Path) -> None:
    name, train = "goodput", TRAIN | {"eval_strategy": "steps", "eval_steps": 10}
    data = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
    output = workplace / "out" / name
    begin = time.time()
    with nodes(workplace, name, 1, 2, train=train, data=data, lora=LORA) as (node,):
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
