"""Files that are no logs, and logs without end: an answer within seconds, in bounded memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.diagnose import gather, judge, lines, report
from alignlaunch.launchers.diagnose.lines import Source
from alignlaunch.launchers.diagnose.scan import Scan
from alignlaunch.launchers.errors import UsageError

MIB = 1 << 20
END = b"\n[rank1]: OSError: [Errno 28] No space left on device\n"
FILLINGS = {
    "no line breaks": b"x" * MIB,
    "a progress bar": b"\r 57%|#####     | 57/100 [00:10<00:08,  5.1it/s]" * (MIB // 47),
    "steps": b"0: [rank0]: step 57/100 | loss 1.234 | grad_norm 0.567 | tokens_per_second 12345.6\n" * (MIB // 86),
    "binary": bytes(range(256)) * (MIB // 256),
    "tracebacks": b"[rank0]: Traceback (most recent call last):\n[rank0]:   File a\n[rank0]: KeyError\n" * (MIB // 80),
    "ranks": b"".join(b"[rank%d]: Connection reset by peer\n" % i for i in range(MIB // 42)),
}


@pytest.mark.parametrize("filling", FILLINGS.values(), ids=FILLINGS)
def test_200_mib(tmp_path: Path, filling: bytes) -> None:
    path = tmp_path / "train.log"
    with path.open("wb") as file:
        file.write(filling * 2)
        file.seek(170 * MIB)  # sparse: nobody reads the middle
        file.write(filling * 30)
        file.write(END)
    code = (
        "import re; from alignlaunch.launchers.diagnose import report\n"
        f"((_, found),) = report.diagnose({str(path)!r}, print)\n"
        "print(found.name, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    path.unlink()
    name, kibibytes = done.stdout.split()
    assert name == "disk-full"
    assert int(kibibytes) >> 10 < 150
    assert seconds < 15, "CPU seconds; a machine that is not busy takes a third"


def test_a_log_that_can_be_read_only_once() -> None:
    """Its begin and its end, in no more memory than both take."""
    most = 4 * MIB
    numbered = lines.of_stream((f"{i:0500}" for i in range(1, 40_001)), most)
    tracemalloc.start()
    read = [(number, int(text)) for number, text in numbered]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(number == i for number, i in read)
    (gap,) = [i for i, (before, after) in enumerate(pairwise(number for number, _ in read), 1) if after > before + 1]
    assert (read[0][0], read[-1][0]) == (1, 40_000)
    assert gap * 500 == pytest.approx(MIB, rel=0.2)
    assert (len(read) - gap) * 500 == pytest.approx(3 * MIB, rel=0.3)
    assert peak < most + 2 * MIB  # with `read` itself; all lines take 20


def test_a_short_log_that_can_be_read_only_once() -> None:
    assert list(lines.of_stream(["a", "b"])) == [(1, "a"), (2, "b")]


def test_many_logs_share_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their begins count, too; what was left out is told in one line."""
    monkeypatch.setattr(gather, "_BUDGET", 4 * MIB)
    for rank in range(8):
        (tmp_path / f"rank_{rank}.log").write_bytes(FILLINGS["steps"] + END)
    ((_, found),) = report.diagnose(str(tmp_path), print)
    several = "rank_0.log, rank_1.log, rank_2.log and 5 more"
    assert found.notes == [f"{several}: read the first 0.125 MiB and the last 0.375 MiB alone"]
    assert found.name == "disk-full"
    of_one = b"".join(piece for _, piece in lines._pieces((tmp_path / "rank_0.log").open("rb"), MIB // 2))
    assert len(of_one) <= MIB // 2 + lines.LONGEST_LINE


def test_more_files_than_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_MOST_FILES", 2)
    for name in "cab":
        (tmp_path / f"{name}.log").write_text("MemoryError\n")
    ((_, found),) = report.diagnose(str(tmp_path), print)
    assert found.evidence[0].startswith("a.log:")
    assert found.notes == [f"{tmp_path}: of more than 2 files and folders only the first were looked at"]


def unreadable(path: Path) -> None:
    """A file that opens and cannot be read, even by root."""
    path.symlink_to("/proc/self/mem")


def test_a_file_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    unreadable(tmp_path / "n0.log")
    unreadable(tmp_path / "error.json")
    (tmp_path / "n1.log").write_text("MemoryError\n")
    ((_, found),) = report.diagnose(str(tmp_path), print)
    assert found.name == "host-memory"
    assert found.notes == ["error.json, n0.log: cannot be read (Input/output error)"]


@pytest.mark.parametrize("alone", [True, False])
def test_where_nothing_can_be_read(tmp_path: Path, alone: bool) -> None:
    unreadable(tmp_path / "n0.log")
    with pytest.raises(UsageError, match=r"cannot be read \(Input/output error\)"):
        report.diagnose(str(tmp_path / "n0.log" if alone else tmp_path), print)


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([b"Root Cause (first observed failure):", b"[0]:"])))
)
def test_junk_is_read_without_a_word(pieces: list[bytes]) -> None:
    scan = Scan()
    text = b"\n".join(pieces).decode("utf-8", errors="replace")
    scan.feed(lines.split(line, Source(None, "junk"), "junk") for line in text.splitlines())
    scan.close()
    found = judge.verdict(scan)
    if found:
        report.as_text("junk", found)


FIELDS = [
    "  time      : x",
    "  rank      : 99999999999",
    "  rank      : 1",
    "  exitcode  : -999 (pid: 1)",
    "====",
    "----",
]


@given(
    st.lists(st.sampled_from([*FIELDS, "Failures:", "[1]:", "  traceback : ", "Traceback (most recent call last):"]))
)
def test_a_summary_in_any_order(pieces: list[str]) -> None:
    scan = Scan()
    scan.feed(lines.split(line, Source(None, "junk"), "junk") for line in ["Failures:", *pieces])
    scan.close()
    judge.verdict(scan)
