"""A run of which a process dies goes on in place, on all nodes, and one that would fail again does not."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.matrix import matrix
from tests.support.ports import free_port

from .conftest import Finished, Runner, environment, write_job

#: The time of a step on a fast machine leaves none to kill a process at a chosen one.
TRAIN = {"max_steps": 40, "save_strategy": "steps", "save_steps": 4, "lr_scheduler_type": "linear"}
LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
Node = subprocess.Popen[str]


def start(workplace: Path, name: str, place: dict[str, str], rank: int, enter: Sequence[str] = ()) -> Node:
    """The agent of a node. enter: a command that executes the one after it."""
    command = [sys.executable, "-m", "alignlaunch.train.torchrun", "-m", "alignlaunch.train", f"runs/{name}.yaml"]
    env = environment(place | {"PET_NODE_RANK": str(rank)})
    with (workplace / f"{name}.log").open("a") as log:
        return subprocess.Popen(
            [*enter, *command], cwd=workplace, env=env, stdout=log, stderr=log, text=True, start_new_session=True
        )


def places(count: int, nproc: int, most: int) -> dict[str, str]:
    """What the agents of so many nodes with so many processes each have in common."""
    place = {"PET_NNODES": str(count), "PET_NPROC_PER_NODE": str(nproc), "PET_MAX_RESTARTS": str(most)}
    return place | {
        "PET_MASTER_ADDR": "localhost",
        "PET_MASTER_PORT": str(free_port()),
        "ALIGNLAUNCH_RUN_DIR": "/runs/a",
    }


@contextmanager
def nodes(
    workplace: Path,
    name: str,
    count: int,
    nproc: int,
    most: int = 3,
    place: dict[str, str] | None = None,
    enter: Sequence[Sequence[str]] | None = None,
    **changes: Any,
) -> Iterator[list[Node]]:
    """So many agents with so many processes each, on this machine. enter: of each one, as in `start`."""
    write_job(workplace, name, **{"lora": LORA, "train": TRAIN, **changes})
    place = place or places(count, nproc, most)
    started: list[Node] = []
    try:
        started += (start(workplace, name, place, rank, enter[rank] if enter else ()) for rank in range(count))
        yield started
    finally:
        for node in started:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
            node.wait()


def wait_for(workplace: Path, name: str, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 120
    while (workplace / f"{name}.log").read_text().count(text) < times:
        assert time.monotonic() < deadline, (workplace / f"{name}.log").read_text()
        time.sleep(0.05)


def processes(node: Node) -> list[psutil.Process]:
    """Those that train, by their local rank."""
    return sorted(psutil.Process(node.pid).children(), key=lambda one: int(one.environ()["LOCAL_RANK"]))


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(one["step"], one["loss"]) for one in Finished(0, "", "", folder).records() if "loss" in one]


@pytest.mark.parametrize(
    ("count", "nproc", "victims"), [(2, 1, (1,)), matrix(1, 2, (0, 1)), matrix(2, 1, (0,)), matrix(2, 2, (3, 0, 2))]
)
def test_a_process_that_is_killed_costs_the_steps_since_its_checkpoint(
    count: int, nproc: int, victims: tuple[int, ...], workplace: Path, run_job: Runner
) -> None:
    """Rank 0 stays on node 0, the losses are those of an undisturbed run, and no step is missing or there twice."""
    name = f"killed-{count}-{nproc}-{len(victims)}{victims[0]}"
    whole = run_job(f"not-{name}", nproc=count * nproc, lora=LORA, train=TRAIN)
    assert whole.code == 0, whole.stderr
    with nodes(workplace, name, count, nproc) as agents:
        for attempt, victim in enumerate(victims, 1):
            wait_for(workplace, name, f"/{TRAIN['max_steps']} | loss", 4 * attempt + 4)
            processes(agents[victim // nproc])[victim % nproc].kill()
            wait_for(workplace, name, "resuming from", attempt)
        assert [node.wait(120) for node in agents] == [0] * count
    said = (workplace / f"{name}.log").read_text()
    assert said.count("restarting the processes in place") == count * len(victims)
    for restart in range(len(victims) + 1):
        assert f"process 0 of {count * nproc} (torchrun), {nproc} on this node, restart {restart}" in said
    assert losses(workplace / "out" / name) == losses(whole.output_dir)


def test_a_node_that_dies_while_it_is_asked_to_stop_does_not_stop_the_run(workplace: Path) -> None:
    """As a pod whose grace was too short: what it asked for dies with it, and the one that replaces it goes on."""
    place, name = places(2, 1, 3), "short-grace"
    with nodes(workplace, name, 2, 1, place=place) as agents:
        wait_for(workplace, name, f"/{TRAIN['max_steps']} | loss", 6)
        for node in agents:
            os.killpg(node.pid, signal.SIGSTOP)  # nobody sees the request before the node is dead
        (workplace / "out" / name / ".request").write_text(f"stop /runs/a\n{platform.node()}/1\n")
        os.killpg(agents[1].pid, signal.SIGKILL)
        for process in psutil.Process(agents[1].pid).children(recursive=True):
            process.kill()
        os.killpg(agents[0].pid, signal.SIGCONT)
        agents[1].wait()
        agents[1] = start(workplace, name, place, 1)
        assert [node.wait(120) for node in agents] == [0, 0], (workplace / f"{name}.log").read_text()
    assert "resuming from" in (workplace / f"{name}.log").read_text()


@pytest.mark.parametrize("count", [1, 2])
def test_bad_input_is_not_tried_again(count: int, workplace: Path) -> None:
    name = f"bad-{count}"
    with nodes(workplace, name, count, 1, data={"train": ["nowhere.jsonl"]}) as agents:
        codes = [node.wait(60) for node in agents]
    said = (workplace / f"{name}.log").read_text()
    assert 0 not in codes
    assert "not restarted in place: another attempt would end in the same way" in said
    assert "restarting" not in said


def test_one_that_fails_without_progress_is_not_tried_again(workplace: Path) -> None:
    """An exception of its own: no signal, and no other process that was lost."""
    train = TRAIN | {"lr_scheduler_kwargs": {"no_such": 1}}
    with nodes(workplace, "raises", 1, 2, train=train) as agents:
        assert agents[0].wait(60) != 0
    said = (workplace / "raises.log").read_text()
    assert "not restarted in place: it failed before it saved a newer checkpoint" in said
    assert "restarting" not in said


def test_no_restarts_where_none_are_wanted(workplace: Path) -> None:
    with nodes(workplace, "none", 1, 2, most=0) as agents:
        wait_for(workplace, "none", "| loss", 5)
        processes(agents[0])[1].kill()
        assert agents[0].wait(60) == 1
    assert "restarting" not in (workplace / "none.log").read_text()
