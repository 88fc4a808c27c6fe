"""Who failed first, and who only went after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlaunch.launchers.diagnose import failures, judge, lines
from alignlaunch.launchers.diagnose.judge import Verdict
from alignlaunch.launchers.diagnose.lines import Line, Source
from alignlaunch.launchers.diagnose.scan import Scan

ELSEWHERE = Source(None, "log")

SUMMARY = """\
============================================================
alignlaunch.train FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-21_10:00:05
  host      : n1
  rank      : 1 (local_rank: 1)
  exitcode  : -15 (pid: 12)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 12
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : {time}
  host      : {host}
  rank      : {rank} (local_rank: 0)
  exitcode  : {code} (pid: 11)
  error_file: /tmp/torchelastic_x/error.json
  traceback : {traceback}
============================================================
"""


def summary(*, rank: int, time: str, code: int = 1, host: str = "n1", traceback: str = "") -> str:
    return SUMMARY.format(rank=rank, time=time, code=code, host=host, traceback=traceback)


def judged(text: str) -> Verdict:
    scan = Scan()
    scan.feed(lines.split(line, ELSEWHERE, f"log:{n}") for n, line in enumerate(text.splitlines(), 1))
    scan.close()
    found = judge.verdict(scan)
    assert found
    return found


@pytest.mark.parametrize(
    ("line", "source", "text"),
    [
        ("plain", ELSEWHERE, "plain"),
        ("0: head", Source(None, "task 0"), "head"),
        ("1: [rank9]: step", Source(9, "task 1"), "step"),
        ("[rank3]: [rank3]: Traceback", Source(3, "log"), "Traceback"),
        ("[rank3]:[E1121 06:24] Watchdog", Source(3, "log"), "[E1121 06:24] Watchdog"),
        ("[default1]: x", Source(1, "log"), "x"),
        ("train-master-0: [rank0]: x", Source(0, "train-master-0"), "x"),
        ("train-node-0-1-abcde: x", Source(None, "train-node-0-1-abcde"), "x"),
        ("[pod/train-worker-1/pytorch] [rank5]: x", Source(5, "train-worker-1"), "x"),
        ("12345678: no task", ELSEWHERE, "12345678: no task"),
        ("[rank1]: \x1b[31mred\x1b[0m\x00", Source(1, "log"), "red"),
    ],
)
def test_prefixes(line: str, source: Source, text: str) -> None:
    assert lines.split(line, ELSEWHERE, "log:1") == Line(source, text, "log:1")


def test_the_earliest_of_several_agents_is_the_first() -> None:
    late = summary(rank=0, time="2026-11-21_10:00:09")
    early = summary(rank=2, time="2026-11-21_10:00:04", host="n2")
    text = "".join(f"0: {line}\n" for line in late.splitlines()) + "".join(
        f"1: {line}\n" for line in early.splitlines()
    )
    found = judged(text)
    assert found.first == "rank 2 on n2: exit code 1, 2026-11-21T10:00:04"
    assert found.followed == ["rank 1: ended by the launcher (SIGTERM)", "rank 0: exit code 1"]


def test_a_rank_that_was_ended_is_never_the_first() -> None:
    text = summary(rank=1, time="2026-11-21_10:00:01", code=-15) + summary(rank=3, time="2026-11-21_10:00:07")
    assert judged(text).first.startswith("rank 3 ")


def test_where_all_were_ended_nobody_is_the_first() -> None:
    found = judged(summary(rank=3, time="2026-11-21_10:00:01", code=-15))
    assert (found.name, found.first) == ("unknown", "")
    assert found.followed == ["ranks 1, 3: ended by the launcher (SIGTERM)"]


def test_the_traceback_is_that_of_the_rank_that_failed_first() -> None:
    text = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "a.py", line 1
[rank1]: Traceback (most recent call last):
[rank0]: RuntimeError: Connection closed by peer [127.0.0.1]:4711
[rank1]:   File "b.py", line 2
[rank1]:     x = y["chosen"]
[rank1]: KeyError: 'chosen'
"""
    found = judged(text + summary(rank=1, time="2026-11-21_10:00:01"))
    assert (found.first.split(" on ")[0], found.traceback[-1]) == ("rank 1", "KeyError: 'chosen'")
    assert found.followed == ["rank 0: lost the connection to another"]
    assert found.name == "unknown", "what rank 0 saw is no cause"


def test_of_chained_exceptions_the_one_that_was_raised() -> None:
    text = """\
Traceback (most recent call last):
  File "a.py", line 1
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2
RuntimeError: no column x
"""
    assert judged(text).traceback[-1] == "RuntimeError: no column x"


def test_an_earlier_attempt_of_a_requeued_job_is_over() -> None:
    begin = "alignlaunch: train (sft): 2 nodes x 4 = 8 processes; head n1:20001\n"
    found = judged(f"{begin}[rank0]: OSError: [Errno 28] No space left on device\n{begin}[rank0]: MemoryError\n")
    assert found.name == "host-memory"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[rank0]: Connection reset by peer\n[rank1]: MemoryError\n", "host-memory"),  # a cause before a symptom
        ("[rank0]: MemoryError\n[rank1]: Disk quota exceeded\n", "host-memory"),  # the earlier line
        ("[rank1]: alignlaunch.train: error: a.jsonl:3: no\n", "data"),  # the entry that stands first
    ],
)
def test_the_rule_of_the_table(text: str, name: str) -> None:
    assert judged(text).name == name


def test_the_scheduler_has_the_last_word() -> None:
    """A job that hangs after a rank has failed is ended by its time limit, which is not why."""
    scan = Scan()
    scan.feed([Line(Source(None, "scheduler"), "scheduler: TIMEOUT", "status"), Line(Source(1, ""), "MemoryError", "")])
    found = judge.verdict(scan)
    assert found
    assert found.name == "host-memory"


def test_lines_of_the_rank_that_failed_first_win() -> None:
    text = "[rank0]: MemoryError\n[rank1]: Disk quota exceeded\n"
    assert judged(text + summary(rank=1, time="2026-11-21_10:00:01")).name == "disk-full"


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("rank_3.log", 3),
        ("out/rank3/stderr.log", 3),
        ("rank-3.err.txt", 3),
        ("attempt_0/3/stderr.log", 3),
        ("lora-rank16-x/attempt_0/3/stderr.log", 3),
        ("attempt_0/3/error.json", 3),
        ("lora-rank16/3/error.json", 3),
        ("frank2/train.log", None),
        ("sft-rank16.log", None),
        ("sft-rank16-77.out", None),
        ("lora-rank16/n0.out", None),
    ],
)
def test_the_rank_that_the_name_of_a_log_tells(name: str, rank: int | None) -> None:
    folder = Path("/home/rank7/lora-rank8")
    (source,) = lines.sources({name: folder / name}).values()
    assert source.rank == rank


def test_several_ranks_side_by_side() -> None:
    names = ["train-rank3.log", "train.rank_4.err", "sft-rank16-77.out", "dmesg.txt"]
    found = lines.sources({name: Path("/logs") / name for name in names})
    assert [source.rank for source in found.values()] == [3, 4, None, None]
    assert [source.where for source in found.values()] == names


def test_the_files_of_several_agents_name_local_ranks() -> None:
    """As `torchrun --log-dir` leaves them on a shared folder; two attempts of one agent are no two agents."""
    names = ["none_a1/attempt_0/0/stderr.log", "none_a1/attempt_1/0/stderr.log"]
    alone = lines.sources({name: Path("/logs") / name for name in names})
    assert [source.rank for source in alone.values()] == [0, 0]
    both = lines.sources({name: Path("/logs") / name for name in [*names, "none_b2/attempt_0/0/stderr.log"]})
    assert [source.rank for source in both.values()] == [None] * 3
    assert [str(source) for source in both.values()] == list(both)


def test_error_files(tmp_path: Path) -> None:
    path = tmp_path / "attempt_0" / "3" / "error.json"
    path.parent.mkdir(parents=True)
    extra = {"py_callstack": "Traceback (most recent call last):\nKeyError: 'x'\n", "timestamp": "1795298476"}
    path.write_text(json.dumps({"message": {"message": "KeyError: 'x'", "extraInfo": extra}}))
    failure = failures.of_error_file(path, 3, "")
    assert failure
    assert (failure.rank, failure.traceback[-1]) == (3, "KeyError: 'x'")
    for text in ("{}", "[]", "nonsense", '{"message": "x"}', '{"message": {"extraInfo": {"timestamp": "1e999"}}}'):
        path.write_text(text)
        assert failures.of_error_file(path, 3, "") is None
