"""From the job's data to token sequences on disk.

Records are read, checked and tokenised once, into one Arrow file in the cache (`cache`); every rank then memory-maps
that file, so that all train on the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..config import Data, Role, Stage, TrainConfig
from ..errors import UserError
from ..processes.beats import beats
from ..processes.rendezvous import Rendezvous
from . import cache, mixing, sampling, sources, workers
from .encoding.encoders import Encoder
from .encoding.tokens import Encoded
from .formats import images
from .formats.readers import READERS
from .formats.turns import FormatError, Record
from .sources import Part

#: How many bad records are listed individually; all are counted.
LISTED = 20


@dataclass(kw_only=True)
class Report:
    """What happened to the records of one role (training or evaluation)."""

    records: int = 0
    truncated: int = 0
    #: Dropped records, counted by reason.
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    #: Sequences from each source of the job.
    sequences: list[int] = field(default_factory=list)
    #: Records of each source that were not drawn, where max_train_samples or max_eval_samples limits them.
    left_out: list[int] = field(default_factory=list)
    #: Place and broken rule of the first LISTED skipped records.
    bad: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = (
            f"{self.records} records -> {sum(self.sequences)} sequences "
            f"({self.truncated} truncated, {sum(self.dropped.values())} dropped"
        )
        text += "".join(f"; {count}: {why}" for why, count in self.dropped.items()) + ")"
        if self.skipped:
            more = f"\n  and {self.skipped - len(self.bad)} more" if self.skipped > len(self.bad) else ""
            text += f"; {self.skipped} bad records skipped:\n  " + "\n  ".join(self.bad) + more
        return text


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What to prepare, and how. key: names all that the encoder depends on. seed: for drawing records."""

    role: Role
    data: Data
    stage: Stage
    encode: Encoder
    key: str
    seed: int = 42
    processes: int = 1

    @property
    def origin(self) -> Role:
        """The role whose sources are read: with `validation_share`, evaluation records come from the training data."""
        return self.role if self.data.validation_share is None else "train"

    @property
    def limit(self) -> int | None:
        """Maximum number of records; None: all."""
        return self.data.max_train_samples if self.role == "train" else self.data.max_eval_samples

    @property
    def weights(self) -> list[float] | None:
        """Weights of the sources; None if they are not mixed by weight."""
        weights = [source.weight for source in self.data.sources("train") if source.weight is not None]
        return weights if self.role == "train" and weights else None

    def parts(self) -> list[list[Part]]:
        """The files of each source. Raises UserError if a source has none."""
        found = self.data.sources(self.origin)
        return [sources.find(s, self.origin, stage=self.stage, cache_dir=self.data.cache_dir) for s in found]

    def encoded(self, record: Record, folder: Path) -> Encoded | None:
        """The encoding of a record whose relative image paths start at `folder`; None if it is not for this role."""
        return self.encode(images.located(record, folder, self.stage)) if self.belongs(record) else None

    def belongs(self, record: Record) -> bool:
        """Whether a record is for this role, where `validation_share` splits the data between the two."""
        share = self.data.validation_share
        return share is None or _held_out(record, share) == (self.role == "validation")


def load(role: Role, job: TrainConfig, encode: Encoder, *, key: str, args: Any, place: Rendezvous) -> Any:
    """The rows to train or evaluate on, as a `datasets.Dataset`: the same on every rank. A collective.

    key: names all that the encoder depends on. args: the training arguments, of which `seed` and `dataset_num_proc`
    are read. Raises UserError on every rank.
    """
    import datasets  # type: ignore[import-untyped]

    from ..processes import sharing
    from ..reporting import say

    todo = Preparation(
        role=role,
        data=job.data,
        stage=job.stage,
        encode=encode,
        key=key,
        seed=args.seed,
        processes=getattr(args, "dataset_num_proc", None) or 1,
    )
    root = Path(job.data.cache_dir or datasets.config.HF_DATASETS_CACHE) / "alignlaunch"
    folder, report = sharing.once(lambda: prepare(todo, root), root, place)
    say(f"data.{role}: {report}")
    named = job.data.sources(todo.origin)
    for source, left, sequences in zip(named, report.left_out, report.sequences, strict=True):
        if left:
            say(
                f"data.{role}: {source.path}: {sequences} sequences of records drawn with seed {todo.seed}; {left} "
                f"records were left out (data.max_{'train' if role == 'train' else 'eval'}_samples: {todo.limit})"
            )
    rows = datasets.Dataset.from_file(str(folder / cache.ROWS))
    if "images" in rows.column_names:  # file paths; the images are read with their row
        rows = rows.cast_column("images", datasets.List(datasets.Image(mode="RGB")))
    if (weights := todo.weights) is None:
        return rows
    taken = mixing.takes(report.sequences, weights, job.data.max_train_samples)
    for source, count, take in zip(job.data.sources(role), report.sequences, taken, strict=True):
        say(f"data.{role}: {take} from the {count} sequences of {source.path} ({take / sum(taken):.1%})")
    return rows.select(mixing.indices(report.sequences, taken, todo.seed))


def prepare(todo: Preparation, root: Path) -> tuple[Path, Report]:
    """Tokenise the data of a role into the cache at `root`, unless it is there. Returns its folder and report."""
    data, parts = todo.data, todo.parts()
    settings = [todo.key, todo.role, data.validation_share, data.skip_bad_records, todo.limit, todo.weights]
    settings += [] if todo.limit is None else [todo.seed]
    identities = [[part.identity for part in source] for source in parts]
    name = cache.name([todo.stage, *map(str, settings), str(identities)])

    def make(folder: Path) -> dict[str, Any]:
        report = Report()
        cache.write(folder / cache.ROWS, _batches(todo, parts, report))
        _refuse_empty(todo, report)
        return vars(report)

    folder, report = cache.made(root, name, make)
    return folder, Report(**report)


def _batches(todo: Preparation, parts: list[list[Part]], report: Report) -> Iterator[bytes]:
    """The rows of all sources, one source after the other, as Arrow streams; fills the report."""
    chosen_of = drawn(todo, parts, report)

    columns: list[str] | None = None
    for source, chosen in zip(parts, chosen_of, strict=True):
        report.sequences.append(0)
        for chunk in workers.encoded(
            items(source, chosen), todo.encoded, todo.processes, skip_bad=todo.data.skip_bad_records
        ):
            beats.alive()
            report.records += chunk.records
            report.truncated += chunk.truncated
            report.dropped = dict(Counter(report.dropped) + chunk.dropped)
            report.skipped += len(chunk.bad)
            report.sequences[-1] += chunk.sequences
            report.bad += [f"{place}: {rule}" for place, rule in chunk.bad][: LISTED - len(report.bad)]
            if chunk.first is not None:
                columns = columns or chunk.first[1]
                workers.refuse_odd(*chunk.first, columns)
                yield chunk.rows


def drawn(todo: Preparation, parts: list[list[Part]], report: Report) -> list[set[int] | None]:
    """For each source the positions of the records to read; None: all. Sets `report.left_out`."""
    report.left_out = [0] * len(parts)
    if todo.limit is None:
        return [None] * len(parts)
    everything = todo.data.validation_share is None and not todo.data.skip_bad_records
    usable = [sampling.positions(source, None if everything else partial(_is_usable, todo)) for source in parts]
    counts = sampling.shares(todo.limit, [len(found) for found in usable], todo.weights)
    report.left_out = [len(found) - count for found, count in zip(usable, counts, strict=True)]
    return [
        None if count == len(found) else sampling.drawn(found, count, todo.seed)
        for found, count in zip(usable, counts, strict=True)
    ]


def _is_usable(todo: Preparation, record: Record) -> bool:
    """Whether a record may be drawn: one of this role, or, unless bad ones are skipped, a bad one, to end the run."""
    try:
        READERS[todo.stage](record)
    except FormatError:
        return not todo.data.skip_bad_records
    return todo.belongs(record)


def items(source: list[Part], chosen: set[int] | None) -> Iterator[workers.Item]:
    """The records of a source at the chosen positions; None: all."""
    at, last = 0, max(chosen, default=-1) if chosen is not None else None
    for part in source:
        if last is not None and at > last:
            return
        for unread in part.unread():
            if chosen is None or at in chosen:
                yield unread, part.folder
            at += 1
            if last is not None and at > last:
                break


def _held_out(record: Record, share: float) -> bool:
    """Whether a record is for evaluation: decided by a hash of its content, so that duplicates land on one side."""
    content = json.dumps(record, sort_keys=True, default=str).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) < share * 2**64


def _refuse_empty(todo: Preparation, report: Report) -> None:
    role, data = todo.role, todo.data
    weighted = todo.weights is not None
    if sum(report.sequences) and not (weighted and 0 in report.sequences):
        return
    named = data.sources(todo.origin)
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
