"""`python -m alignlaunch.train.show JOB_RESOLVED_YAML`: a job's data as it will be trained, as JSON. Needs no torch.

It reads, draws and encodes with the same functions as training, so that it shows what training does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import config, finish
from .arguments import trainer_args
from .config import Role, TrainConfig
from .data import preparation
from .data.encoding import vision
from .data.encoding.encoders import IGNORED, STAGES
from .data.encoding.tokens import Encoded, Row, tokenizer_of
from .data.formats.readers import FORMATS
from .data.formats.reading import choose
from .data.formats.turns import FormatError
from .data.preparation import Preparation, Report
from .errors import UserError
from .model import loading

QUANTILES = (0, 0.05, 0.5, 0.95, 1)
#: A name, token ids, and for each token whether it is learnt.
Sequence = tuple[str, list[int], list[bool]]


def main() -> None:
    """Print the JSON and leave with the exit code."""
    try:
        options = _parser().parse_args()
        try:
            job = config.load(options.job)
        except ValueError as error:
            raise UserError(str(error)) from error
        try:
            found = show(job, options.records, options.sample)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{sys.executable} has no {error.name}, which is needed to tokenise. Name the training python in "
                "ALIGNLAUNCH_PYTHON, or in the cluster profile."
            ) from error
        print(json.dumps(found, ensure_ascii=False))  # noqa: T201 - the output
    except UserError as error:
        print(f"alignlaunch.train.show: error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(finish.BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignlaunch.train.show", description=__doc__)
    parser.add_argument("job", type=Path, help="job.resolved.yaml; paths in it are relative to the working directory")
    parser.add_argument("--records", type=int, default=1, help="records of each source to show")
    parser.add_argument("--sample", type=int, default=1000, help="records of each source to count; 0: all")
    return parser


def show(job: TrainConfig, records: int, sample: int) -> dict[str, Any]:
    """Counts and lengths of the first `sample` records of each source (0: all), and `records` of them in full."""
    args = arguments(job)
    tokenizer = loading.load_tokenizer(job)
    processor = vision.load_processor(job, tokenizer)
    encode = vision.encoder(job, STAGES[job.stage], tokenizer, processor, args)
    roles: list[Role] = ["train", *(["validation"] if job.data.evaluates else [])]  # type: ignore[list-item]
    found = {}
    for role in roles:
        todo = Preparation(role=role, data=job.data, stage=job.stage, encode=encode, key="", seed=args.seed)
        found[role] = _role(todo, args, tokenizer_of(processor or tokenizer), records, sample)
    return {"stage": job.stage, "model": job.model, "arguments": vars(args), "data": found}


def arguments(job: TrainConfig) -> SimpleNamespace:
    """The training arguments that affect how records are encoded: the job's values, else their trainer's defaults."""
    known = json.loads(trainer_args.FILE.read_text(encoding="utf-8"))["stages"][job.stage]
    read = {name: spec["default"] for name, spec in known.items() if "default" in spec}
    return SimpleNamespace(**read | {name: job.train[name] for name in read.keys() & job.train.keys()})


def _role(todo: Preparation, args: Any, tokenizer: Any, records: int, sample: int) -> list[dict[str, Any]]:
    report = Report()
    parts = todo.parts()
    chosen = preparation.drawn(todo, parts, report)
    named = todo.data.sources(todo.origin)
    return [
        {"path": source.path, "left_out": left}
        | _source(todo, args, tokenizer, preparation.items(files, positions), records, sample)
        for source, files, positions, left in zip(named, parts, chosen, report.left_out, strict=True)
    ]


def _source(
    todo: Preparation, args: Any, tokenizer: Any, items: Iterator[Any], records: int, sample: int
) -> dict[str, Any]:
    count = truncated = 0
    dropped: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    bad: list[str] = []
    lengths: list[int] = []
    learnt: list[int] = []
    shown: list[dict[str, Any]] = []
    for (place, decode), folder in itertools.islice(items, sample or None):
        try:
            record = decode()
            if isinstance(record, FormatError):
                raise record
            became = todo.encoded(record, folder)
            form = str(choose(record, FORMATS[todo.stage]))
        except FormatError as error:
            bad.append(f"{place}: {error}")
            continue
        if became is None:  # for the other role
            continue
        count += 1
        formats[form] += 1
        truncated += became.truncated
        if not became.rows:
            dropped[became.why or "nothing to learn"] += 1
        rows = [_sequences(row, args) for row in became.rows]
        for _, ids, marks in itertools.chain(*rows):
            lengths.append(len(ids))
            learnt.append(sum(marks))
        if len(shown) < records:
            shown.append({"place": place, "format": form} | _shown(became, args, tokenizer))
    return {
        "records": count,
        "complete": next(items, None) is None,
        "formats": formats,
        "truncated": truncated,
        "dropped": dropped,
        "bad": len(bad),
        "bad_records": bad[: preparation.LISTED],
        "tokens": _quantiles(lengths),
        "learnt_tokens": _quantiles(learnt),
        "shown": shown,
    }


def _quantiles(values: list[int]) -> list[int]:
    """The minimum, 5th percentile, median, 95th percentile and maximum; empty without values."""
    ordered = sorted(values)
    return [ordered[round(q * (len(ordered) - 1))] for q in QUANTILES] if ordered else []


def _shown(became: Encoded, args: Any, tokenizer: Any) -> dict[str, Any]:
    sequences = [
        {"name": name, "tokens": len(ids), "learnt_tokens": sum(marks), "parts": _parts(tokenizer, ids, marks)}
        for row in became.rows
        for name, ids, marks in _sequences(row, args)
    ]
    if any("images" in row for row in became.rows):  # their text is tokenised in the collator, with the pixels
        sequences = [
            {
                "name": name,
                "images": row["images"],
                "parts": [{"text": given, "learnt": False}, {"text": said, "learnt": True}],
            }
            for row in became.rows
            for name, given, said in _texts(row)
        ]
    return {"truncated": became.truncated, "why": became.why, "sequences": sequences}


def _sequences(row: Row, args: Any) -> list[Sequence]:
    """The sequences of a row as the model sees them."""
    if "images" in row:
        return []
    if "labels" in row:
        return [("", row["input_ids"], [label != IGNORED for label in row["labels"]])]
    if "input_ids" in row:
        return [("", row["input_ids"], [True] * len(row["input_ids"]))]
    sides = ("chosen", "rejected") if any(name.startswith("chosen") for name in row) else ("a", "b")
    found: list[Sequence] = []
    for side in sides:
        ids = row.get(f"{side}_input_ids") or [*row.get("prompt_ids", ()), *row[f"{side}_ids"]]
        marks = row.get(f"{side}_learnt", [])  # none in stage rm: the score is of the whole sequence
        marks = [False] * (len(ids) - len(marks)) + marks
        cut = slice(None, args.max_length)
        if getattr(args, "truncation_mode", "keep_start") == "keep_end" and args.max_length:
            cut = slice(-args.max_length, None)
        found.append((side, ids[cut], marks[cut]))
    return found


def _texts(row: Row) -> list[tuple[str, str, str]]:
    """For a row with images the name, the given text and the learnt text of each sequence."""
    if "completion" in row:
        return [("", row["prompt"], row["completion"])]
    if "chosen" in row:
        return [(side, row["prompt"], row[side]) for side in ("chosen", "rejected")]
    return [(side, row[f"{side}_prompt"], row[f"{side}_answer"]) for side in ("a", "b")]


def _parts(tokenizer: Any, ids: list[int], marks: list[bool]) -> list[dict[str, Any]]:
    """The text in parts that are either wholly learnt or wholly given."""
    runs = itertools.groupby(zip(ids, marks, strict=True), key=lambda pair: pair[1])
    return [{"text": tokenizer.decode([token for token, _ in run]), "learnt": mark} for mark, run in runs]


if __name__ == "__main__":
    main()
