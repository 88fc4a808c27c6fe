"""Several processes that tokenise: they make the same bytes as one, and none outlives the one that waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.data import preparation
from alignlaunch.train.data.encoding.tokens import Encoded
from alignlaunch.train.errors import UserError

from .preparing import GOOD, encode, numbered, prepare


def fails(record: dict[str, Any]) -> Encoded:
    if record["completion"] == "xxx":
        os._exit(9)
    return encode(record)


def test_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    path = Path(numbered(tmp_path / "x.jsonl", 450))
    path.write_text(path.read_text() + "{}\n" * 3 + json.dumps(GOOD | {"completion": "none"}))
    found: list[tuple[bytes, preparation.Report]] = []
    for processes in (1, 2, 5):
        cache = tmp_path / str(processes)
        rows, report = prepare(cache, [str(path)], processes=processes, skip_bad_records=True)
        assert [row[0] for row in rows] == [*range(1, 451)]
        (arrow,) = cache.rglob("data.arrow")
        found.append((arrow.read_bytes(), report))
    assert found[0] == found[1] == found[2]
    assert (report.records, report.skipped, report.dropped) == (451, 3, {"nothing to learn": 1})


def test_processes_tell_the_first_bad_record(tmp_path: Path) -> None:
    path = Path(numbered(tmp_path / "x.jsonl", 450))
    path.write_text(path.read_text() + "{}\n{cut\n")
    with pytest.raises(UserError, match=r"x\.jsonl:451: columns found: none"):
        prepare(tmp_path, [str(path)], processes=2)


def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    path = numbered(tmp_path / "x.jsonl", 250)
    with pytest.raises(UserError, match=r"one of the 2 processes that tokenise was killed.*train\.dataset_num_proc"):
        prepare(tmp_path, [path], processes=2, encode=fails)


def test_no_process_outlives_the_one_that_waits(tmp_path: Path) -> None:
    """Else a job that is killed would leave them on the node."""
    code = (
        "import os, sys, time; from pathlib import Path; from alignlaunch.train.data import workers\n"
        "def encode(record, folder):\n"
        "    os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)\n"  # one write: print may make two
        "items = [((str(i), dict), Path()) for i in range(500)]\n"
        "list(workers.encoded(items, encode, 2, skip_bad=False))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        try:
            pids = [int(waiting.stdout.readline()) for _ in range(2)]
        finally:
            waiting.kill()
    for pid in pids:
        for _ in range(100):
            status = Path(f"/proc/{pid}/status")
            if not status.exists() or "State:\tZ" in status.read_text():
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{pid} is alive")
