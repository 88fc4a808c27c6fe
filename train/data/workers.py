"""Encoding records in several worker processes: in order, and to the same bytes for any number of them.

Records are sent in chunks of a fixed size, and each chunk becomes one Arrow batch, whichever process encodes it.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..processes import rendezvous
from .encoding.tokens import Encoded, Row
from .formats.turns import FormatError, Record
from .sources import Unread

RECORDS_IN_CHUNK = 32
#: A record that is not decoded yet, and the folder where its relative paths start.
Item = tuple[Unread, Path]
#: From a record and its folder to rows; None: the record is not for this role.
Encode = Callable[[Record, Path], Encoded | None]


@dataclass(kw_only=True)
class Chunk:
    """The result of encoding some records.

    dropped: counts by reason. bad: place and broken rule of each bad record. rows: an Arrow stream.
    """

    records: int = 0
    truncated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    sequences: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    rows: bytes = b""
    #: The place of the first row's record, and the row's columns.
    first: tuple[str, list[str]] | None = None


def encoded(items: Iterable[Item], encode: Encode, processes: int, *, skip_bad: bool) -> Iterator[Chunk]:
    """The encoded chunks, in order. Raises UserError for a bad record unless `skip_bad`, or if a worker is killed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one core a process; and forking with threads may hang
    source = iter(items)
    chunks = iter(lambda: list(itertools.islice(source, RECORDS_IN_CHUNK)), [])
    if processes <= 1:
        yield from (_encode(chunk, encode, skip_bad) for chunk in chunks)
        return
    # Forked, because the encoder cannot be pickled: it is a closure over the tokenizer and the stage's arguments.
    pool = ProcessPoolExecutor(processes, get_context("fork"), _begin, (encode, skip_bad))
    waiting: deque[Future[Chunk]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_work, chunk))
            if len(waiting) > 2 * processes:  # enough to keep all busy, while bounding memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"data: one of the {processes} processes that tokenise was killed, perhaps for lack of memory. Lower "
            "`train.dataset_num_proc`."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_task: tuple[Encode, bool] | None = None


def _begin(encode: Encode, skip_bad: bool) -> None:
    global _task  # noqa: PLW0603 - set once in each worker, when it starts
    rendezvous.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    _task = (encode, skip_bad)


def _work(items: list[Item]) -> Chunk:
    assert _task is not None  # noqa: S101 - set by _begin
    return _encode(items, *_task)


def _encode(items: list[Item], encode: Encode, skip_bad: bool) -> Chunk:
    chunk = Chunk()
    rows: list[Row] = []
    for (place, decode), folder in items:
        try:
            found = decode()
            if isinstance(found, FormatError):
                raise found
            became = encode(found, folder)
        except FormatError as error:
            if not skip_bad:
                raise UserError(
                    f"{place}: {error}. Mend or remove it; `data.skip_bad_records: true` leaves such records out."
                ) from error
            chunk.bad.append((place, str(error)))
            continue
        if became is None:
            continue
        chunk.records += 1
        chunk.truncated += became.truncated
        if not became.rows:
            chunk.dropped[became.why or "nothing to learn"] += 1
        for row in became.rows:
            chunk.first = chunk.first or (place, list(row))
            refuse_odd(place, row, chunk.first[1])
            rows.append(row)
    chunk.sequences = len(rows)
    chunk.rows = _arrow(rows) if rows else b""
    return chunk


def refuse_odd(place: str, columns: Iterable[str], expected: list[str]) -> None:
    """Raise UserError unless a row has the columns of the first one."""
    if odd := sorted(set(columns) ^ set(expected)):
        raise UserError(f"{place}: `{odd[0]}` must be in every record or in none.")


def _arrow(rows: list[Row]) -> bytes:
    import pyarrow as pa  # type: ignore[import-untyped]

    kinds: dict[Any, Any] = {int: pa.int32(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    schema = pa.schema(
        [(k, pa.list_(kinds[type(v[0])]) if isinstance(v, list) else kinds[type(v)]) for k, v in rows[0].items()]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    return bytes(sink.getvalue())
