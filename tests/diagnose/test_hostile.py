"""Files that are no logs, and logs without end: an answer within seconds, in bounded memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.diagnose import judge, lines, report
from alignlaunch.launchers.diagnose.lines import Source
from alignlaunch.launchers.diagnose.scan import Scan

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
