"""The lines of all ranks, whoever put a prefix before them: srun, torchrun, torch itself, a pod."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

#: Bytes read of a log; of a larger one its begin, where a rendezvous fails, and its end, where everything else does.
MOST, _MOST_HEAD = 17 << 20, 1 << 20
#: Bytes; what is longer (a progress bar, a file without line breaks) is read in pieces.
LONGEST_LINE = 4096

_PREFIX = re.compile(
    r"(?:\[pod/(?P<labelled>[\w.-]{1,253})/[\w.-]+\] |(?P<pod>[a-z0-9][a-z0-9.-]{0,252}-\d+(?:-[a-z0-9]+)?): )?"
    r"(?:(?P<task>\d{1,6}): )?"
    r"(?:\[(?:rank|default)(?P<rank>\d{1,6})\]: ?)*"  # torch repeats what torchrun has put there
)
#: A file of one rank alone: torchrun's `attempt_0/3/stderr.log`, behind a folder of its agent's own; `rank_3.log`.
_OF_TORCHRUN = re.compile(r"(?P<agent>(?:.*?/)?)(?:attempt_\d+/(\d{1,6})/[^/]*|(\d{1,6})/error\.json)")
_RANK = re.compile(r"(?:^|/)rank[_-]?(\d{1,6})(?=[./]|$)")
#: `train-rank3.log`, beside those of other ranks: without them it is a job's, as LoRA's `sft-rank16.log`.
_RANK_AT_END = re.compile(r"[._-]rank[_-]?(\d{1,6})(?:\.[^/]*)?$")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class Source(NamedTuple):
    """Who wrote a line: a rank, or what runs on a node beside them (None); where: the node's task, a pod, a file."""

    rank: int | None
    where: str

    def __str__(self) -> str:
        return self.where if self.rank is None else f"rank {self.rank}"


class Line(NamedTuple):
    """One line without its prefixes. place: file and line, for people."""

    source: Source
    text: str
    place: str


def of_file(path: Path, name: str, source: Source, most: int = MOST) -> Iterator[Line]:
    """The lines of a log file; of one larger than `most` bytes its two `ends`.

    name: to call it by; source: of a line that does not say it. Raises OSError.
    """
    with path.open("rb") as file:
        for number, raw in _pieces(file, most):
            place = f"{name}:{number}" if number else name
            for text in raw.decode("utf-8", errors="replace").split("\r"):
                yield split(text.rstrip("\n"), source, place)


def ends(most: int) -> tuple[int, int]:
    """How many bytes are read from the begin and from the end of a log that is larger than `most`."""
    head = min(_MOST_HEAD, most // 4)
    return head, most - head


def of_stream(texts: Iterable[str], most: int = MOST) -> Iterator[tuple[int, str]]:
    """(number, line) of a log that can be read only once, as `of_file`; bytes are those that a line takes in memory."""
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
    """Who wrote the lines of each file that do not say it. files: by name, from the diagnosed folder on."""
    at_end = {name: int(match[1]) for name in files if (match := _RANK_AT_END.search(name))}
    if len(set(at_end.values())) < 2:
        at_end = {}
    several = several_agents(files.values())
    return {
        name: Source(at_end.get(name, rank_of(path, name, several)), name if len(files) > 1 else "")
        for name, path in files.items()
    }


def several_agents(paths: Iterable[Path]) -> bool:
    """Whether torchrun left the files of several nodes, each of which counts its processes from 0."""
    return len({match["agent"] for path in paths if (match := _OF_TORCHRUN.fullmatch(path.as_posix()))}) > 1


def rank_of(path: Path, name: str, several: bool) -> int | None:
    """The rank that a file's place names, None where it names a local one (`several_agents`) or nothing.

    name: from the diagnosed folder on, whose own path tells of the job.
    """
    if match := _OF_TORCHRUN.fullmatch(path.as_posix()):
        return None if several else int(match[2] or match[3])
    match = _RANK.search(name)
    return int(match[1]) if match else None


def split(text: str, source: Source, place: str) -> Line:
    """Take the prefixes off a line. source: of a line without any."""
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
            number, read = 0, head  # the line that went over it must not cost the last one
