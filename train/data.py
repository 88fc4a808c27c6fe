"""From the job's data to token sequences on disk.

Records are read, checked and tokenised once, into one Arrow file under a name made from all that it depends on; every
process then maps that file into memory, so that all train on the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alignlaunch.train import images, mixing, sources
from alignlaunch.train.config import Data, Role, TrainConfig
from alignlaunch.train.encoding import Encoded, Row
from alignlaunch.train.errors import UserError
from alignlaunch.train.rendezvous import Rendezvous
from alignlaunch.train.sources import Part
from alignlaunch.train.turns import FormatError, Record

Encoder = Callable[[Record], Encoded]
ROWS_AT_ONCE = 1000
#: Bad records that are listed one by one; all are counted.
LISTED = 20


@dataclass(kw_only=True)
class Report:
    """What became of the records."""

    records: int = 0
    truncated: int = 0
    dropped: int = 0
    skipped: int = 0
    #: Of each source of the job.
    sequences: list[int] = field(default_factory=list)
    #: The first LISTED of the records that were skipped: place and broken rule.
    bad: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = (
            f"{self.records} records -> {sum(self.sequences)} sequences "
            f"({self.truncated} truncated, {self.dropped} dropped: too long, or nothing to learn)"
        )
        if self.skipped:
            more = f"\n  and {self.skipped - len(self.bad)} more" if self.skipped > len(self.bad) else ""
            text += f"; {self.skipped} bad records skipped:\n  " + "\n  ".join(self.bad) + more
        return text


def load(role: Role, job: TrainConfig, encode: Encoder, *, key: str, seed: int, place: Rendezvous) -> Any:
    """The rows to train or evaluate on, as a `datasets.Dataset`: the same in every process.

    key: what the encoder depends on. seed: for the mixture of weighted sources. Raises UserError in every process.
    """
    import datasets  # type: ignore[import-untyped]

    from alignlaunch.train import sharing
    from alignlaunch.train.reporting import say

    root = Path(job.data.cache_dir or datasets.config.HF_DATASETS_CACHE) / "alignlaunch"
    folder, report = sharing.once(lambda: prepare(role, job.data, job.stage, encode, key=key, root=root), root, place)
    say(f"data.{role}: {report}")
    rows = datasets.Dataset.from_file(str(folder / "data.arrow"))
    if "images" in rows.column_names:  # paths, read when a row is
        rows = rows.cast_column("images", datasets.List(datasets.Image(mode="RGB")))
    if (weights := _weights(role, job.data)) is None:
        return rows
    taken = mixing.takes(report.sequences, weights, job.data.max_train_samples)
    for source, count, take in zip(job.data.sources(role), report.sequences, taken, strict=True):
        say(f"data.{role}: {take} from the {count} sequences of {source.path} ({take / sum(taken):.1%})")
    return rows.select(mixing.indices(report.sequences, taken, seed))


def prepare(role: Role, data: Data, stage: str, encode: Encoder, *, key: str, root: Path) -> tuple[Path, Report]:
    """Tokenise the data of a role into `data.arrow` below `root`, unless that was done before. Returns its folder.

    A finished folder is never changed or removed: another job may be reading it.
    """
    origin = _origin(role, data)
    parts = [sources.find(s, origin, stage=stage, cache_dir=data.cache_dir) for s in data.sources(origin)]
    settings = (
        f"{key} {role} {data.validation_share} {data.skip_bad_records} {_limit(role, data)} {_quotas(role, data)}"
    )
    code = (file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py")))
    identities = (part.identity for part in itertools.chain(*parts))
    name = hashlib.sha256("\0".join([*code, settings, *identities]).encode()).hexdigest()[:32]
    folder = root / name
    if not (folder / "report.json").is_file():
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}.", ignore_cleanup_errors=True) as scratch:
                work = Path(scratch) / name
                work.mkdir()
                report = Report()
                _write(work / "data.arrow", _rows(role, data, stage, parts, encode, report))
                _refuse_empty(role, data, report)
                (work / "report.json").write_text(json.dumps(asdict(report)), encoding="utf-8")
                _publish(work, folder)
        except OSError as error:
            raise UserError(
                f"data.cache_dir: {root}: {error.strerror or error}. Make room, or name another."
            ) from error
    return folder, Report(**json.loads((folder / "report.json").read_text(encoding="utf-8")))


def _publish(work: Path, folder: Path) -> None:
    try:
        work.rename(folder)
    except OSError:
        if (folder / "report.json").is_file():  # another job was faster: the same bytes
            return
        folder.rename(work.with_suffix(".broken"))  # somebody removed a part of it
        work.rename(folder)


def _origin(role: Role, data: Data) -> Role:
    """What is held out for evaluation comes from the training data."""
    return role if data.validation_share is None else "train"


def _limit(role: Role, data: Data) -> int | None:
    return data.max_train_samples if role == "train" else data.max_eval_samples


def _weights(role: Role, data: Data) -> list[float] | None:
    weights = [source.weight for source in data.sources("train") if source.weight is not None]
    return weights if role == "train" and weights else None


def _quotas(role: Role, data: Data) -> list[int] | None:
    """With weights and a limit: how many records of each source to read."""
    limit, weights = _limit(role, data), _weights(role, data)
    return [max(1, n) for n in mixing.apportion(limit, weights)] if limit and weights else None


def _rows(
    role: Role, data: Data, stage: str, parts: list[list[Part]], encode: Encoder, report: Report
) -> Iterator[Row]:
    """The rows of all sources in turn; fills the report."""
    limit, quotas = _limit(role, data), _quotas(role, data)
    columns: set[str] = set()
    for i, source in enumerate(parts):
        most = quotas[i] if quotas else None if limit is None else limit - report.records
        report.sequences.append(0)
        for place, encoded in itertools.islice(_encoded(role, data, stage, source, encode, report), most):
            report.records += 1
            report.truncated += encoded.truncated
            report.dropped += not encoded.rows
            report.sequences[i] += len(encoded.rows)
            for row in encoded.rows:
                columns = columns or set(row)
                if odd := sorted(columns ^ set(row)):
                    raise UserError(f"{place}: `{odd[0]}` must stand in every record or in none.")
                yield row


def _encoded(
    role: Role, data: Data, stage: str, source: list[Part], encode: Encoder, report: Report
) -> Iterator[tuple[str, Encoded]]:
    """The good records of one source that belong to the role."""
    for folder, (place, found) in ((part.folder, item) for part in source for item in part.read()):
        try:
            if isinstance(found, FormatError):
                raise found
            if data.validation_share is None or _held_out(found, data.validation_share) == (role == "validation"):
                yield place, encode(images.located(found, folder, stage))
        except FormatError as error:
            if not data.skip_bad_records:
                raise UserError(
                    f"{place}: {error}. Mend or remove it; `data.skip_bad_records: true` leaves such records out."
                ) from error
            report.skipped += 1
            if len(report.bad) < LISTED:
                report.bad.append(f"{place}: {error}")


def _held_out(record: Record, share: float) -> bool:
    """Whether a record is for evaluation: decided by its content alone, so that a copy of it is on the same side."""
    content = json.dumps(record, sort_keys=True, default=str).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) < share * 2**64


def _write(path: Path, rows: Iterator[Row]) -> None:
    """An Arrow stream, which `datasets` can map; nothing where there are no rows."""
    import pyarrow as pa  # type: ignore[import-untyped]

    first = next(rows, None)
    if first is None:
        return
    kinds: dict[Any, Any] = {int: pa.int32(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    schema = pa.schema(
        [(k, pa.list_(kinds[type(v[0])]) if isinstance(v, list) else kinds[type(v)]) for k, v in first.items()]
    )
    rows = itertools.chain([first], rows)
    with pa.ipc.new_stream(str(path), schema) as stream:
        while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
            stream.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def _refuse_empty(role: Role, data: Data, report: Report) -> None:
    weighted = _weights(role, data) is not None
    if sum(report.sequences) and not (weighted and 0 in report.sequences):
        return
    named = data.sources(_origin(role, data))
    empty = [source.path for source, count in zip(named, report.sequences, strict=True) if not count]
    if weighted and len(empty) < len(named):
        what = "it cannot have the share that its weight gives it"
    elif report.records:
        what = f"all {report.records} records were dropped: raise max_length (or max_prompt_length)"
    elif report.skipped:
        what = f"all {report.skipped} records are bad, such as {report.bad[0]}"
    elif data.validation_share:
        what = f"{data.validation_share:.1%} of so few records is none for {role}: change data.validation_share"
    else:
        what = "there is not one record"
    raise UserError(f"data.{role}: {', '.join(empty)}: no data: {what}.")
