"""Small sources, and rows prepared of them with a stand-in for a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alignlaunch.train.config import Data, Role
from alignlaunch.train.data import preparation
from alignlaunch.train.data.encoding.encoders import Encoder
from alignlaunch.train.data.encoding.tokens import Encoded
from alignlaunch.train.data.formats.sft import example

GOOD = {"prompt": "p", "completion": "c"}


def encode(record: dict[str, Any]) -> Encoded:
    """A stand-in for a tokenizer: the length of the completion; `long` is cut, `none` dropped."""
    text = str(example(record).completion)
    return Encoded([] if text == "none" else [{"input_ids": [len(text)], "n": 1}], truncated=text == "long")


def prepare(
    folder: Path,
    train: list[Any],
    role: Role = "train",
    encode: Encoder = encode,
    processes: int = 1,
    seed: int = 3,
    **keys: Any,
) -> tuple[list[list[int]], preparation.Report]:
    """The token ids of every row, and the report; the cache is `folder`/cache."""
    import datasets  # type: ignore[import-untyped]
    import msgspec

    job = msgspec.convert({"train": train, **keys}, Data)
    todo = preparation.Preparation(
        role=role, data=job, stage="sft", encode=encode, key="k", seed=seed, processes=processes
    )
    place, report = preparation.prepare(todo, folder / "cache")
    return datasets.Dataset.from_file(str(place / "data.arrow"))["input_ids"][:], report


def lines(path: Path, *texts: str) -> str:
    """A JSON Lines file of records with these completions; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": "p", "completion": text}) + "\n" for text in texts))
    return str(path)


def numbered(path: Path, count: int, first: int = 1) -> str:
    """Records whose rows are their numbers."""
    return lines(path, *("x" * n for n in range(first, first + count)))
