"""Scores as columns: computed once, before training, and kept beside the prepared data.

So neither the reference nor a reward model takes GPU memory while the policy trains. The rows are scored in shards,
each by all ranks together and written by the first rank of each node: so a run that was killed continues with the next
shard, with any number of ranks. Within a shard rows of one length are scored together, the longest first. The folder's
name contains a hash of all that the scores depend on.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from accelerate.utils import send_to_device  # type: ignore[import-untyped]

from ...data import cache
from ...data.encoding.tokens import Row
from ...errors import UserError
from ...model import next_token
from ...processes import spread
from ...reporting import say
from . import collate, images, logps, shared
from .collate import Batch

ROWS_IN_SHARD = 1024
#: The modules that all scores come from.
_CODE = (collate, images, logps, next_token, shared)

#: Turns a batch of pairs into values of its sequences, all of the first side before those of the other: (N,), or
#: (N, T - 1) with one for each token of an answer and zero elsewhere.
Scorer = Callable[[Batch], torch.Tensor]
Load = Callable[[], contextlib.AbstractContextManager[Scorer]]


def identity(place: str, args: Any, code: ModuleType, *more: object, files: Iterable[Path] = ()) -> str:
    """A hash of the model at `place` (a folder's content, or a hub id) and of what else its scores depend on.

    args: of which the precision counts. code: the module that has the scorer. files: counted by path, size and time, as
    data files are. A collective.
    """
    digest = hashlib.sha256()
    if args.process_index == 0:  # the others would only read the same gigabytes again
        sources = "".join(cache.meaning(inspect.getsource(module)) for module in (*_CODE, code))
        digest.update("\0".join([sources, place, *map(str, (args.bf16, args.fp16, *more))]).encode())
        for path in _model_files(Path(place)):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        for path in files:
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return str(spread.gather(digest.hexdigest())[0][:32])


def of_start_model(
    model: Any, tokenizer: Any, args: Any, code: ModuleType, *more: object, files: Iterable[Path] = ()
) -> str:
    """`identity` of the model that training starts from, as it was loaded. A collective."""
    loaded_as = (getattr(model.config, name, None) for name in ("_commit_hash", "quantization_config"))
    loaded = model.dtype, len(tokenizer), *loaded_as
    return identity(model.config.name_or_path, args, code, *loaded, *more, files=files)


def _model_files(folder: Path) -> list[Path]:
    """The files of weights and configuration; for an adapter also its base's."""
    patterns = ("*.safetensors", "*.bin", "config.json", "adapter_config.json")
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    adapter = folder / "adapter_config.json"
    if adapter in files:
        files += _model_files(Path(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]))
    return files


def add(
    sets: list[Any],
    sides: tuple[str, str],
    name: str,
    identity: str,
    load: Load,
    collate: Any,
    args: Any,
    batch_size: int,
) -> list[Any]:
    """The data sets with `{side}_{name}` columns, scored now unless an earlier run has done it. A collective.

    sets: prepared `datasets.Dataset`s, in whose folders the scores are kept. load: makes the scorer, if there is work
    to do. collate: makes the scorer's batch from `batch_size` rows.
    """
    import datasets  # type: ignore[import-untyped]

    shards = [_shards(rows, f"{name}-{identity}") for rows in sets]
    wanted = [(i, k) for i, paths in enumerate(shards) for k in range(len(paths))]
    absent = spread.gather([(i, k) for i, k in wanted if not shards[i][k].is_file()])  # nodes may have separate disks
    # (An evaluation alone has its rows as both sets.)
    unscored = {shards[i][k]: (i, k) for found in absent for i, k in found}
    if missing := sorted(unscored.values()):
        with load() as score:
            for done, (i, k) in enumerate(missing):
                say(f"scoring {name}: shard {done + 1} of {len(missing)}")
                part = range(k * ROWS_IN_SHARD, min((k + 1) * ROWS_IN_SHARD, len(sets[i])))
                _write(shards[i][k], _score(sets[i], part, sides, name, score, collate, args, batch_size), args)
    spread.gather(None)  # the others wait for the writers
    scores = [datasets.concatenate_datasets([datasets.Dataset.from_file(str(p)) for p in paths]) for paths in shards]
    return [datasets.concatenate_datasets([a, b], axis=1) for a, b in zip(sets, scores, strict=True)]


def _shards(rows: Any, folder: str) -> list[Path]:
    # With the fingerprint, because several selections of rows may come from one file.
    place = Path(rows.cache_files[0]["filename"]).parent / f"{folder}-{rows._fingerprint}"
    return [place / f"{index:05d}.arrow" for index in range(-(-len(rows) // ROWS_IN_SHARD))]


def _score(
    rows: Any, part: range, sides: tuple[str, str], name: str, score: Scorer, collate: Any, args: Any, batch_size: int
) -> list[Row]:
    """The values of a part of the rows, on every rank; each rank scores an equal share."""
    by_length = sorted(part, key=lambda i: -_length(rows[i]))
    mine = [by_length[i] for i in spread.share(len(part), args)]
    found: list[Row] = []
    for start in range(0, len(mine), batch_size):
        batch = collate([rows[i] for i in mine[start : start + batch_size]])
        with torch.no_grad():
            values = score(send_to_device(batch, args.device))
        lists = _as_lists(values.cpu(), batch)
        half = len(lists) // 2
        found += [
            {f"{sides[0]}_{name}": a, f"{sides[1]}_{name}": b} for a, b in zip(lists[:half], lists[half:], strict=True)
        ]
    values_of = dict(zip(by_length, spread.join(found, len(part), args), strict=True))
    return [values_of[i] for i in part]


def _length(row: Row) -> int:
    """The tokens of both sequences."""
    return sum(len(tokens) for name, tokens in row.items() if name.endswith("_ids"))


def _as_lists(values: torch.Tensor, batch: Batch) -> list[Any]:
    """For each sequence one number, or a list with one for each token of its answer."""
    if values.dim() == 1:
        return list(values.tolist())
    answer = batch["answer_mask"][:, 1:].bool()
    return [row[mask].tolist() for row, mask in zip(values, answer, strict=True)]


def _write(path: Path, found: list[Row], args: Any) -> None:
    """Write a shard atomically, once per node; nodes that share the folder write the same content."""
    import pyarrow as pa  # type: ignore[import-untyped]

    if args.local_process_index != 0:
        return
    kind = pa.list_(pa.float32()) if isinstance(next(iter(found[0].values())), list) else pa.float32()
    schema = pa.schema([(name, kind) for name in found[0]])
    work = path.with_name(f".{path.name}.{args.process_index}")
    try:
        path.parent.mkdir(exist_ok=True)
        with pa.ipc.new_stream(str(work), schema) as writer:
            writer.write_batch(pa.RecordBatch.from_pylist(found, schema=schema))
        work.replace(path)
    except OSError as error:
        raise UserError(
            f"data.cache_dir: {path.parent}: {error.strerror or error}. Make room, name another folder, or "
            "have them computed while it trains (`train.scores: live`, `train.precompute_ref_log_probs: false`)."
        ) from error
