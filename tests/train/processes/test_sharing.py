"""Data is prepared once for each copy of the cache folder: real processes, which only the process group connects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignlaunch.train.processes.sharing import _worker
from tests.support.ports import free_port
from tests.train.conftest import ROOT

# Each process is the first of its own node, as far as it can tell.
PROGRAM = """
import json, os, sys
from pathlib import Path
from alignlaunch.train.config import Data
from alignlaunch.train.data import preparation
from alignlaunch.train.data.encoding.tokens import Encoded
from alignlaunch.train.processes import rendezvous, sharing
from alignlaunch.train.errors import UserError

root, rank = Path(sys.argv[1]), os.environ["RANK"]
place = rendezvous.read(os.environ)
rendezvous.initialise(place, 120)

def encode(record):
    with open("encoded", "a") as log:
        log.write(rank)
    return Encoded([{"input_ids": [record["n"]]}])

def work():
    return preparation.prepare(
        preparation.Preparation(role="train", data=Data(train=["x.jsonl"]), stage="sft", encode=encode, key="k"), root
    )

for _ in range(2):  # the second time it is there already
    try:
        folder, report = sharing.once(work, root, place)
        print(folder, report.records, (folder / "data.arrow").is_file())
    except UserError as error:
        print(error, error.everywhere)
os._exit(0)
"""


def run_pair(folder: Path, caches: list[str], program: str = PROGRAM) -> list[list[str]]:
    """The lines that rank 0 and rank 1 print."""
    port = str(free_port())
    processes = []
    for rank, cache in enumerate(caches):
        env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        env |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", program, cache]
        processes.append(
            subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        results = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], results
    return [out.splitlines() for out, _ in results]


@pytest.mark.parametrize(
    ("caches", "by"), [(["shared", "shared"], "000"), (["node-0", "node-1"], "000111")], ids=["shared", "separate"]
)
def test_once_for_each_copy(tmp_path: Path, caches: list[str], by: str) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    printed = run_pair(tmp_path, caches)
    assert "".join(sorted((tmp_path / "encoded").read_text())) == by
    for cache, lines in zip(caches, printed, strict=True):
        (folder,) = (tmp_path / cache).iterdir()  # nothing but the prepared data stays there
        assert lines == [f"{folder.relative_to(tmp_path)} 3 True"] * 2


def test_an_error_of_one_is_raised_by_all(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n{cut')
    for lines in run_pair(tmp_path, ["shared", "shared"]):
        assert all(line.startswith("x.jsonl:2: not JSON") and line.endswith("True") for line in lines)
        assert len(lines) == 2


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "file").touch()
    for lines in run_pair(tmp_path, ["file/cache", "file/cache"]):
        assert lines == ["file/cache: Not a directory. Make it writable, or choose another. True"] * 2


@pytest.mark.parametrize(
    ("here", "workers"),
    [
        ([(True, "a", 0), (True, "a", 1), (True, "b", 0), (True, "b", 1)], [0, 0, 0, 0]),
        ([(True, "a", 0), (True, "a", 1), (False, "b", 0), (False, "b", 1)], [0, 0, 2, 2]),
        # Slurm may deal ranks out in turn, and nodes may share a host name.
        ([(True, "a", 0), (False, "b", 0), (True, "a", 1), (False, "b", 1)], [0, 1, 0, 1]),
        ([(True, "a", 0), (True, "a", 1), (False, "a", 0), (False, "a", 1), (False, "a", 0)], [0, 0, 2, 2, 4]),
    ],
)
def test_who_works_for_whom(here: list[tuple[bool, str, int]], workers: list[int]) -> None:
    assert [_worker(here, rank) for rank in range(len(here))] == workers


PATIENT = """
import os, time
from alignlaunch.train.processes import rendezvous, sharing, spread
place = rendezvous.read(os.environ)
rendezvous.initialise(place, 10)
print(spread.gather(place.rank), sharing.by_rank_0(lambda: time.sleep(15) or "merged", place))
os._exit(0)
"""


def test_others_wait_longer_for_work_than_for_a_collective(tmp_path: Path) -> None:
    """`ddp_timeout` is 10 s here; a corpus takes longer to tokenise than training may hang."""
    assert run_pair(tmp_path, ["", ""], PATIENT) == [["[0, 1] merged"]] * 2
