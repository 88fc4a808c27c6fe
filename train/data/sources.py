"""Where records come from: files, folders and hub data sets, read one record at a time. No torch here.

A record that cannot be read is yielded as a FormatError, so that the caller decides whether to skip it. A file that
cannot be read at all raises UserError.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Source
from ..errors import UserError
from .formats.turns import FormatError, Record

#: A place ("file:line"; in parquet files and hub data sets "file: record N") and the record there.
Item = tuple[str, Record | FormatError]
#: The same, decoded only when called: records that are not drawn never are, and a worker process may decode it.
Unread = tuple[str, Callable[[], Record | FormatError]]
JSON_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
ROWS_AT_ONCE = 1000
_MARK = b"\xef\xbb\xbf"  # the byte order mark, which Windows editors write
_VISIBLE = re.compile(r"[^ \t\r\n]")


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a split of a hub data set. identity: changes with its records; folder: where their paths start."""

    place: str
    identity: str
    unread: Callable[[], Iterator[Unread]]
    count: Callable[[], int]
    folder: Path = Path()


class Selection(NamedTuple):
    """A source's columns to rename, as pairs (accepted name, the source's name), and those to ignore."""

    columns: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source) -> Selection:
        """The selection that the job file gives for this source."""
        return cls(tuple(sorted((source.columns or {}).items())), tuple(source.ignore_columns or ()))


WHOLE = Selection()


def find(source: Source, role: str, *, stage: str, cache_dir: str | None) -> list[Part]:
    """The parts of a source of `data.train` or `data.validation` (`role`)."""
    path = Path(source.path)
    if path.exists():
        return [_file(file, Selection.of(source)) for file in files(path, role, stage=stage)]
    return [_hub(source, role, cache_dir)]


def suffixes(stage: str) -> tuple[str, ...]:
    """The file name endings that the stage reads."""
    return (*JSON_SUFFIXES, ".parquet", *([".txt"] if stage == "pt" else []))


def files(path: Path, role: str, *, stage: str) -> list[Path]:
    """The data files at or below an existing path, in the order of their names."""
    accepted = suffixes(stage)
    if path.is_dir():
        if found := sorted(p for p in path.rglob("*") if p.name.endswith(accepted) and p.is_file()):
            return found
        raise UserError(f"data.{role}: {path}: the folder holds no file of type {', '.join(accepted)}.")
    if path.name.endswith(accepted):
        return [path]
    hint = " Plain text is for stage pt; other stages need records with named columns." if path.suffix == ".txt" else ""
    raise UserError(f"data.{role}: {path}: not one of the file types {', '.join(accepted)}.{hint}")


def read(path: Path, selection: Selection = WHOLE) -> Iterator[Item]:
    """The records of a file, with their columns renamed and left out as selected."""
    for place, decode in _unread(path, selection):
        yield place, decode()


def _unread(path: Path, selection: Selection) -> Iterator[Unread]:
    reader = {".parquet": _parquet, ".txt": _text}.get(path.suffix, _json)
    with _reading(path):
        for place, decode in reader(path):
            yield place, partial(_selected, decode, selection)


def _count(path: Path) -> int:
    """How many records a file has, good or bad."""
    if path.suffix != ".parquet":
        return sum(1 for _ in _unread(path, WHOLE))
    with _reading(path):
        return int(_opened_parquet(path).metadata.num_rows)


def is_one_piece(path: Path) -> bool:
    """Whether a file can only be read whole: text, or one JSON value (an array or object), whatever its suffix."""
    if path.suffix in (".parquet", ".txt"):
        return path.suffix == ".txt"
    with _reading(path), _open(path) as file:
        first: bytes = next((line for line in file if line.strip()), b"")
    # A pretty-printed object begins with a lone `{`. Any other first line that is not JSON is a broken record of many.
    first = first.removeprefix(_MARK).strip()
    return first == b"{" or first.startswith(b"[")


def _file(path: Path, selection: Selection) -> Part:
    stat = path.stat()
    identity = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {selection}"
    return Part(str(path), identity, partial(_unread, path, selection), partial(_count, path), path.parent)


def _selected(decode: Callable[[], Record | FormatError], selection: Selection) -> Record | FormatError:
    found = decode()
    if selection == WHOLE or isinstance(found, FormatError):
        return found
    if missing := [own for _, own in selection.columns if own not in found]:
        there = ", ".join(map(str, found)) or "none"
        return FormatError(f"no column {missing[0]}, which `columns` names; columns found: {there}")
    gone = {own for _, own in selection.columns}.union(selection.ignored)
    rest = {name: value for name, value in found.items() if name not in gone}
    return rest | {accepted: found[own] for accepted, own in selection.columns}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: not a whole gzip file: {error}. Make it again.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}. Check its rights.") from error


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _json(path: Path) -> Iterator[Unread]:
    """Records of a JSON array, one object, or one object a line."""
    if is_one_piece(path):
        with _open(path) as file:
            yield from _document(path, file.read())
        return
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path}:{number}", partial(_line, line.removeprefix(_MARK) if number == 1 else line)


def _line(line: bytes) -> Record | FormatError:
    try:
        text = line.rstrip(b"\r\n").decode()  # else a truncated line's error blames its line break
        return _record(json.loads(text), text)
    except UnicodeDecodeError as error:
        return FormatError(f"not UTF-8 text: {error.reason} at byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return FormatError(f"not JSON: {error.msg} (column {error.colno})")
    except (ValueError, RecursionError) as error:  # thousands of digits, or of nested brackets
        return FormatError(f"not JSON that can be read: {error}")


def _record(value: Any, text: str) -> Record | FormatError:
    if not isinstance(value, dict):
        return FormatError(f"holds a {type(value).__name__}; a record is an object with named columns")
    if "\\ud" in text or "\\uD" in text:  # a lone surrogate is valid JSON, but no tokenizer accepts it
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            return FormatError(f"half a character ({error.object[error.start]!a}): its other half was cut off")
    return value


def _document(path: Path, content: bytes) -> Iterator[Unread]:
    text = _decoded(path, content)
    line, counted = 1, 0
    try:
        for start, end, value in _values(text):
            line, counted = line + text.count("\n", counted, start), start
            yield f"{path}:{line}", partial(_record, value, text[start:end])
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON that can be read: {error}.") from error


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text: {error.reason}.") from error


def _values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Start, end and value of each item of a JSON array; a single object counts as one item."""
    decode = json.JSONDecoder().raw_decode
    at, opening = _skip(text, 0), "["
    if not text.startswith("[", at):
        value, end = decode(text, at)
        yield at, end, value
        at = end
    else:
        while text.startswith(opening, at):
            at = _skip(text, at + 1)
            if opening == "[" and text.startswith("]", at):
                break
            value, end = decode(text, at)
            yield at, end, value
            at, opening = _skip(text, end), ","
        if not text.startswith("]", at):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at += 1
    if (at := _skip(text, at)) != len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def _skip(text: str, at: int) -> int:
    """The position of the first character from `at` on that is not white space."""
    found = _VISIBLE.search(text, at)
    return found.start() if found else len(text)


def _text(path: Path) -> Iterator[Unread]:
    """A text file is one record."""
    yield f"{path}:1", partial(dict, text=_decoded(path, path.read_bytes()).replace("\r\n", "\n"))


def _parquet(path: Path) -> Iterator[Unread]:
    import pyarrow as pa  # type: ignore[import-untyped]

    number = 0
    try:
        for batch in _opened_parquet(path).iter_batches(ROWS_AT_ONCE):
            for record in batch.to_pylist():
                number += 1
                yield f"{path}: record {number}", partial(_without_fill, record)
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a parquet file: {error}.") from error


def _opened_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        return pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a parquet file: {error}.") from error


def _without_fill(value: Any) -> Any:
    """A row of a table without the nulls inside its values: Arrow gives each map the keys of all maps of its column."""
    if isinstance(value, dict):
        return {key: _without_fill(inner) for key, inner in value.items() if inner is not None}
    return [_without_fill(inner) for inner in value] if isinstance(value, list) else value


def _hub(source: Source, role: str, cache_dir: str | None) -> Part:
    """A split of a hub data set, named `owner/name` or `owner/name:split`."""
    import datasets  # type: ignore[import-untyped]

    entry = source.path
    name, _, split = entry.partition(":")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"data.{role}: {entry}: no such file or folder (looked in {Path.cwd()}).")
    try:
        splits = [split] if split else datasets.get_dataset_split_names(name)
        usual = [split] if split else ["train"] if role == "train" else ["validation", "test"]
        chosen = next((s for s in usual if s in splits), None)
        rows = datasets.load_dataset(name, split=chosen, cache_dir=cache_dir) if chosen else None
    except Exception as error:  # the hub client raises anything from OSError to its own classes
        raise UserError(
            f"data.{role}: {entry}: no such file or folder in {Path.cwd()}, and it could not be loaded from the "
            f"Hugging Face hub ({type(error).__name__}: {str(error).partition(chr(10))[0]}). Check the path; on a "
            "node without internet download it first and give the folder."
        ) from error
    if rows is None:
        raise UserError(f"data.{role}: {entry}: has the splits {', '.join(splits)}; name one: {name}:{splits[0]}.")
    place, selection = f"{name}:{chosen}", Selection.of(source)
    return Part(
        place,
        f"{place} {rows._fingerprint} {selection}",
        lambda: (
            (f"{place}: record {i}", partial(_selected, partial(_without_fill, dict(row)), selection))
            for i, row in enumerate(rows, 1)
        ),
        lambda: len(rows),
    )
