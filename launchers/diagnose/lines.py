"""Read log lines and take off their prefixes (of srun, torchrun, torch, a pod), which tell the rank."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

#: Bytes to read of a log. Of a larger one: its start, where a rendezvous fails, and its end, where all else fails.
MOST, _MOST_HEAD = 17 << 20, 1 << 20
#: Bytes. A longer line (a progress bar, a file without line breaks) is read in pieces.
LONGEST_LINE = 4096

_PREFIX = re.compile(
    r"(?:\[pod/(?P<labelled>[\w.-]{1,253})/[\w.-]+\] |(?P<pod>[a-z0-9][a-z0-9.-]{0,252}-\d+(?:-[a-z0-9]+)?): )?"
    r"(?:(?P<task>\d{1,6}): )?"
    r"(?:\[(?:rank|default)(?P<rank>\d{1,6})\]: ?)*"  # torch writes it again after torchrun's
)
#: A file of a single rank: torchrun's `attempt_0/3/stderr.log`, in a folder of its agent; or, for _RANK, `rank_3.log`.
_OF_TORCHRUN = re.compile(r"(?P<agent>(?:.*?/)?)(?:attempt_\d+/(\d{1,6})/[^/]*|(\d{1,6})/error\.json)")
_RANK = re.compile(r"(?:^|/)rank[_-]?(\d{1,6})(?=[./]|$)")
#: `train-rank3.log`. Counts only beside such files of other ranks: a single `sft-rank16.log` may mean a LoRA rank.
_RANK_AT_END = re.compile(r"[._-]rank[_-]?(\d{1,6})(?:\.[^/]*)?$")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class Source(NamedTuple):
    """Who wrote a line. rank: None for other processes, such as launchers. where: the task, pod or file."""

    rank: int | None
    where: str

    def __str__(self) -> str:
        return self.where if self.rank is None else f"rank {self.rank}"


class Line(NamedTuple):
    """A log line without its prefixes. place: such as "FILE:NUMBER", to show."""

    source: Source
    text: str
    place: str


def of_file(path: Path, name: str, source: Source, most: int = MOST) -> Iterator[Line]:
    """The lines of a log file; for one larger than `most` bytes those of its start and end (`ends`).

    name: to show; source: for lines without a prefix. Raises OSError.
    """
    with path.open("rb") as file:
        for number, raw in _pieces(file, most):
            place = f"{name}:{number}" if number else name
            for text in raw.decode("utf-8", errors="replace").split("\r"):
                yield split(text.rstrip("\n"), source, place)


def ends(most: int) -> tuple[int, int]:
    """How many bytes to read from the start and from the end of a log that is larger than `most`."""
    head = min(_MOST_HEAD, most // 4)
    return head, most - head


def of_stream(texts: Iterable[str], most: int = MOST) -> Iterator[tuple[int, str]]:
    """(number, line) of a log that can be read only once, limited as in `of_file`, but by bytes in memory."""
    head, tail = ends(most)
    numbered = enumerate(texts, start=1)
    for number, text in numbered:
        yield number, text
        head -= sys.getsizeof(text)
        if head <= 0:
            break
    kept: deque[tuple[int, str]] = deque()
    for number, text in numbered:
        kept.append((number, text))
        tail -= sys.getsizeof(kept[-1]) + sys.getsizeof(text)
        while tail < 0:
            tail += sys.getsizeof(kept[0]) + sys.getsizeof(kept.popleft()[1])
    yield from kept


def sources(files: dict[str, Path]) -> dict[str, Source]:
    """name → source of the file's lines without a prefix. files: name relative to the diagnosed folder → path."""
    at_end = {name: int(match[1]) for name in files if (match := _RANK_AT_END.search(name))}
    if len(set(at_end.values())) < 2:
        at_end = {}
    several = several_agents(files.values())
    return {
        name: Source(at_end.get(name, rank_of(path, name, several)), name if len(files) > 1 else "")
        for name, path in files.items()
    }


def several_agents(paths: Iterable[Path]) -> bool:
    """Whether these are torchrun's files of several nodes: each node numbers its processes from 0."""
    return len({match["agent"] for path in paths if (match := _OF_TORCHRUN.fullmatch(path.as_posix()))}) > 1


def rank_of(path: Path, name: str, several: bool) -> int | None:
    """The rank in a file's path; None if there is none, or if it is a local rank (several: see `several_agents`).

    name: relative to the diagnosed folder, so that a "rank16" in the path of the job's folder does not count.
    """
    if match := _OF_TORCHRUN.fullmatch(path.as_posix()):
        return None if several else int(match[2] or match[3])
    match = _RANK.search(name)
    return int(match[1]) if match else None


def split(text: str, source: Source, place: str) -> Line:
    """Take the prefixes off a line. source: used for what they do not tell."""
    match = _PREFIX.match(text)
    if match and match.end():
        pod, task, rank = match["labelled"] or match["pod"], match["task"], match["rank"]
        where = pod or (f"task {task}" if task else source.where)
        source, text = Source(int(rank) if rank else source.rank, where), text[match.end() :]
    text = text.rstrip()
    return Line(source, text if text.isprintable() else _CONTROL.sub("", text), place)


def _pieces(file: BinaryIO, most: int) -> Iterator[tuple[int, bytes]]:
    """(line number, bytes) of each piece; the number is 0 where the middle of the file was left out."""
    size, read, number = os.fstat(file.fileno()).st_size, 0, 1
    head, tail = ends(most)
    while read <= most and (raw := file.readline(LONGEST_LINE)):
        yield number, raw
        read += len(raw)
        number += bool(number) and raw.endswith(b"\n")
        if number and read >= head and size - read > tail:
            file.seek(size - tail)
            number, read = 0, head  # not more than `head`: else the end of the tail would not be read
