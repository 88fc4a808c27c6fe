"""From the job's sources to token sequences on disk.

Each node's first process reads, checks and tokenises once and writes one Arrow file under a name made from all that it
depends on; every process then maps that file into memory, so that all train on the same rows in the same order.
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignlaunch.train import encoding, formats
from alignlaunch.train.encoding import Encoded
from alignlaunch.train.errors import UserError
from alignlaunch.train.formats import FormatError, Record

Encoder = Callable[[Record], Encoded]
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")
ROWS_AT_ONCE = 1000
UTF8 = "utf-8-sig"  # with or without the mark that Windows editors put first


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the records."""

    records: int
    sequences: int
    truncated: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{self.records} records -> {self.sequences} sequences "
            f"({self.truncated} truncated, {self.dropped} dropped: no token to learn within the length limit)"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or one split of a hub data set."""

    place: str
    identity: str
    read: Callable[[], Iterator[tuple[str, Record]]]


def resolve(entries: list[str], role: str, cache_dir: str | None) -> list[Source]:
    """Find what the job's list names. An entry may itself be a comma-separated list, as the documents write it."""
    sources: list[Source] = []
    for entry in (part.strip() for text in entries for part in text.split(",") if part.strip()):
        path = Path(entry)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
            if not files:
                raise UserError(f"data.{role}: {entry}: the folder holds no file of type {', '.join(SUFFIXES)}.")
            sources += [_file(p) for p in files]
        elif path.is_file():
            if not path.name.endswith(SUFFIXES):
                raise UserError(f"data.{role}: {entry}: not one of the file types {', '.join(SUFFIXES)}.")
            sources.append(_file(path))
        else:
            sources.append(_hub(entry, role, cache_dir))
    return sources


def prepare(
    sources: list[Source], encode: Encoder, *, key: str, limit: int | None, cache_dir: str | None
) -> tuple[Path, Report]:
    """Tokenise the sources into an Arrow file, unless that was done before. Returns its folder."""
    import datasets  # type: ignore[import-untyped]

    code = "".join(inspect.getsource(module) for module in (formats, encoding))
    parts = [code, key, str(limit), *(source.identity for source in sources)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    root = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "alignlaunch"
    folder = root / name
    if not (folder / "report.json").is_file():
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}."))
        work.chmod(0o777 & ~_umask())  # mkdtemp's 0700 would keep the others of a group out of a shared cache
        try:
            report = _write(work / "data.arrow", sources, encode, limit)
            (work / "report.json").write_text(json.dumps(asdict(report)), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
        except OSError:
            if not (folder / "report.json").is_file():  # else another node was faster on a shared folder: same bytes
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder, Report(**json.loads((folder / "report.json").read_text(encoding="utf-8")))


def open_prepared(folder: Path) -> Any:
    """The rows of a prepared folder as a `datasets.Dataset`, mapped into memory."""
    import datasets

    return datasets.Dataset.from_file(str(folder / "data.arrow"))


def _write(path: Path, sources: list[Source], encode: Encoder, limit: int | None) -> Report:
    import pyarrow as pa  # type: ignore[import-untyped]

    records = sequences = truncated = dropped = 0
    schema: Any = None
    writer: Any = None
    pending: list[encoding.Row] = []

    def flush() -> None:
        nonlocal schema, writer
        if not pending:
            return
        if writer is None:
            schema = pa.schema([(name, _arrow_type(value)) for name, value in pending[0].items()])
            writer = pa.ipc.new_stream(str(path), schema)
        writer.write_batch(pa.RecordBatch.from_pylist(pending, schema=schema))
        pending.clear()

    for place, record in _limited(sources, limit):
        records += 1
        try:
            encoded = encode(record)
        except FormatError as error:
            raise UserError(f"{place}: {error}.") from error
        truncated += encoded.truncated
        dropped += not encoded.rows
        sequences += len(encoded.rows)
        pending += encoded.rows
        if len(pending) >= ROWS_AT_ONCE:
            flush()
    flush()
    if writer is None:
        what = f"all {records} records were dropped: raise max_length" if records else "there is not one record"
        raise UserError(f"{', '.join(source.place for source in sources)}: no data: {what}.")
    writer.close()
    return Report(records=records, sequences=sequences, truncated=truncated, dropped=dropped)


def _arrow_type(value: Any) -> Any:
    import pyarrow as pa

    if isinstance(value, list):
        return pa.list_(pa.int32())
    return pa.string() if isinstance(value, str) else pa.int32()


def _limited(sources: list[Source], limit: int | None) -> Iterator[tuple[str, Record]]:
    count = 0
    for source in sources:
        for item in source.read():
            if limit is not None and count >= limit:
                return
            count += 1
            yield item


def _file(path: Path) -> Source:
    stat = path.stat()
    reader = _parquet if path.suffix == ".parquet" else _json
    identity = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return Source(str(path), identity, lambda: reader(path))


def _json(path: Path) -> Iterator[tuple[str, Record]]:
    """Records of a JSON array, one object, or one object a line, whatever the file's name says."""
    with gzip.open(path, "rt", encoding=UTF8) if path.suffix == ".gz" else path.open(encoding=UTF8) as file:
        try:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            if first.lstrip().startswith("[") or not _is_object(first):
                yield from _json_document(path, file.read())
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield f"{path}:{number}", _record(f"{path}:{number}", json.loads(line))
                    except json.JSONDecodeError as error:
                        raise UserError(f"{path}:{number}: not JSON: {error.msg} (column {error.colno}).") from error
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
            raise UserError(f"{path}: not a text file in UTF-8: {error}.") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        # A broken first line of JSON lines, or a pretty-printed document, whose first line is a lone bracket.
        return line.strip() not in ("", "{", "[")


def _json_document(path: Path, text: str) -> Iterator[tuple[str, Record]]:
    if not text.strip():
        return
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno}).") from error
    for number, record in enumerate(document if isinstance(document, list) else [document], 1):
        place = f"{path}: record {number}"
        yield place, _record(place, record)


def _parquet(path: Path) -> Iterator[tuple[str, Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE):
            for record in batch.to_pylist():
                number += 1
                yield f"{path}: record {number}", record
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a parquet file: {error}.") from error


def _record(place: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise UserError(f"{place}: holds a {type(value).__name__}; a record is an object with named columns.")
    return value


def _hub(entry: str, role: str, cache_dir: str | None) -> Source:
    """`owner/name` or `owner/name:split` on the hub."""
    import datasets

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
    place = f"{name}:{chosen}"
    return Source(
        place,
        f"{place} {rows._fingerprint}",
        lambda: ((f"{place}: record {i}", dict(row)) for i, row in enumerate(rows, 1)),
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
