"""One log for all ranks: picking lines, the last ones, and lines as they are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from alignlaunch.launchers.backends import logfile

#: launcher: (ranks on each node if each is a task of srun, its log as srun --label and torchrun's prefix have it)
LOGS: dict[str, tuple[int | None, list[str]]] = {
    "torchrun": (
        None,
        ["head\n", "0: [rank0]: a\n", "0: [rank1]: b\n", "1: [rank2]: c\n", "1: [rank3]:d\n", "1: node\n"],
    ),
    "direct": (2, ["head\n", "0: a\n", "1: b\n", "2: c\n", "3: d\n"]),
    "one task a node": (1, ["head\n", "0: a\n", "1: b\n"]),
    "deepspeed": (None, ["head\n", "0: a\n", "1: c\n"]),
    "bash": (None, ["head\n", "[rank0]: a\n", "[rank1]: b\n"]),
}


@pytest.mark.parametrize(
    ("launcher", "rank", "node", "expected"),
    [
        ("torchrun", None, None, "all"),
        ("torchrun", 0, None, "a"),
        ("torchrun", 3, None, "d"),
        ("torchrun", None, 0, "ab"),
        ("torchrun", None, 1, ["c", "d", "node"]),
        ("torchrun", 2, 1, "c"),
        ("torchrun", 2, 0, ""),
        ("torchrun", 12, None, ""),
        ("one task a node", 1, None, "b"),
        ("direct", 1, None, "b"),
        ("direct", None, 1, "cd"),
        ("direct", 3, 1, "d"),
        ("deepspeed", None, 1, "c"),
        ("bash", 1, None, "b"),
    ],
)
def test_selector(launcher: str, rank: int | None, node: int | None, expected: str | list[str]) -> None:
    tasks, lines = LOGS[launcher]
    wanted = logfile.selector(rank, node, tasks)
    got = [line.rpartition(":")[2].strip() for line in lines if wanted(line)]
    assert got == ([line.rpartition(":")[2].strip() for line in lines] if expected == "all" else list(expected))


def everything(_: str) -> bool:
    return True


def ended(lines: Generator[str, None, int]) -> tuple[list[str], int]:
    """All lines, and what the generator returns."""
    found = []
    while True:
        try:
            found.append(next(lines))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("count", [None, 0, 1, 2, 99])
def test_tail(tmp_path: Path, count: int | None) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n\xffb\nc\npart")
    lines = ["a\n", "\N{REPLACEMENT CHARACTER}b\n", "c\n", "part\n"]
    expected = lines if count is None else lines[len(lines) - min(count, len(lines)) :]
    assert ended(logfile.tail(path, count, everything)) == (expected, path.stat().st_size)


def test_tail_before_following_leaves_a_partial_line_to_the_follower(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\npart")
    lines, read = ended(logfile.tail(path, None, everything, whole=True))
    assert (lines, read) == (["a\n"], 2)
    assert list(logfile.follow(path, read, everything, lambda: True)) == ["part\n"]


def test_tail_counts_wanted_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"[rank{i % 2}]: {i}\n" for i in range(10)))
    assert list(logfile.tail(path, 2, logfile.selector(1, None, None))) == ["[rank1]: 7\n", "[rank1]: 9\n"]


def test_a_whole_log_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\n")
    lines = logfile.tail(path, None, everything)
    with path.open("a") as file:
        assert next(lines) == "a\n", "before the rest of the file is read"
        file.write("b\n")
    assert list(lines) == [], "what comes later is the follower's"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "POLL_SECONDS", 0.01)


def collected(path: Path, write: Callable[[], Iterator[None]], wanted: Callable[[str], bool] = everything) -> list[str]:
    """What `follow` yields while `write` goes on in steps, in a thread of its own."""
    written = threading.Event()

    def steps() -> None:
        for _ in write():
            time.sleep(0.03)
        written.set()

    thread = threading.Thread(target=steps)
    thread.start()
    lines = list(logfile.follow(path, 0, wanted, written.is_set))
    thread.join()
    return lines


@pytest.mark.usefixtures("quick")
def test_follow_a_file_that_appears_late_with_lines_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = "one\ntwo é\nthree".encode()

    def write() -> Iterator[None]:
        yield
        for i in range(len(text)):  # byte by byte: a character and a line both come in parts
            with path.open("ab") as file:
                file.write(text[i : i + 1])
            if i % 4 == 0:
                yield

    assert collected(path, write) == ["one\n", "two é\n", "three\n"]


@pytest.mark.usefixtures("quick")
def test_follow_one_rank(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def write() -> Iterator[None]:
        for i in range(6):
            with path.open("a") as file:
                file.write(f"[rank{i % 2}]: {i}\n")
            yield

    assert collected(path, write, logfile.selector(0, None, None)) == [f"[rank0]: {i}\n" for i in (0, 2, 4)]


@pytest.mark.usefixtures("quick")
def test_follow_a_file_that_never_appears(tmp_path: Path) -> None:
    assert list(logfile.follow(tmp_path / "log", 0, everything, lambda: True)) == []
