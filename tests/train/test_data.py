"""Sources, what is counted, and what is said of bad ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train import data
from alignlaunch.train.encoding import Encoded
from alignlaunch.train.errors import UserError
from alignlaunch.train.formats import example

GOOD = {"prompt": "p", "completion": "c"}


def encode(record: dict[str, Any]) -> Encoded:
    """A stand-in for a tokenizer: the length of the completion; `long` is cut, `none` dropped."""
    text = str(example(record).completion)
    return Encoded([] if text == "none" else [{"input_ids": [len(text)], "n": 1}], truncated=text == "long")


def prepare(folder: Path, entries: list[str], limit: int | None = None) -> tuple[list[list[int]], data.Report]:
    sources = data.resolve(entries, "train", None)
    place, report = data.prepare(sources, encode, key="k", limit=limit, cache_dir=str(folder / "cache"))
    return data.open_prepared(place)["input_ids"][:], report


def lines(path: Path, *texts: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": "p", "completion": text}) + "\n" for text in texts))
    return str(path)


def test_files_folders_lists_and_types(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    folder = tmp_path / "folder"
    lines(folder / "b" / "deep.jsonl", "22")
    (folder / "a.json").write_text(json.dumps([{"prompt": "p", "completion": "1"}], indent=2))
    (folder / "notes.txt").write_text("not data")
    pq.write_table(pa.Table.from_pylist([{"prompt": "p", "completion": "333"}]), folder / "c.parquet")
    with gzip.open(folder / "d.jsonl.gz", "wt") as file:
        file.write(json.dumps({"prompt": "p", "completion": "4444"}))
    one, bom = lines(tmp_path / "one.jsonl", "55555"), tmp_path / "bom.json"
    bom.write_bytes(b"\xef\xbb\xbf" + json.dumps({"prompt": "p", "completion": "666666"}).encode())
    rows, report = prepare(tmp_path, [f"{one}, {folder}", str(bom)])
    assert rows == [[5], [1], [2], [3], [4], [6]]
    assert report.records == 6


def test_counts_and_limit(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", "a", "long", "none", "b", "c")
    rows, report = prepare(tmp_path, [path], limit=4)
    assert rows == [[1], [4], [1]]
    assert (report.records, report.sequences, report.truncated, report.dropped) == (4, 3, 1, 1)
    assert "4 records -> 3 sequences (1 truncated, 1 dropped" in str(report)


def test_prepared_once_and_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "x.jsonl", "a")
    assert prepare(tmp_path, [path])[0] == [[1]]
    calls: list[Any] = []
    monkeypatch.setattr(data, "_write", lambda *args: calls.append(args))
    assert prepare(tmp_path, [path])[0] == [[1]]
    assert calls == []
    monkeypatch.undo()
    lines(tmp_path / "x.jsonl", "abc")
    assert prepare(tmp_path, [path])[0] == [[3]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "there is not one record"),
        ("[]", "there is not one record"),
        (json.dumps(GOOD) + "\n\n{bad\n", "x.jsonl:3: not JSON"),
        ('{"prompt": "p"\n' + json.dumps(GOOD), "x.jsonl:1: not JSON"),
        ('[\n{"prompt": "p",}\n]', "x.jsonl:2: not JSON"),
        (json.dumps(GOOD) + "\n[1]\n", "x.jsonl:2: holds a list"),
        ("[1, 2]", "x.jsonl: record 1: holds a int"),
        (json.dumps(GOOD) + '\n{"text": "x"}\n', "x.jsonl:2: columns found: text; accepted: "),
        (json.dumps(GOOD | {"completion": "none"}), "all 1 records were dropped: raise max_length"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
    ],
)
def test_bad_content(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        prepare(tmp_path, [str(path)])
    assert str(path) in str(error.value)
    assert says in str(error.value)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [], "a failed preparation left files"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("./absent.jsonl", "no such file or folder"),
        ("owner/name", "could not be loaded from the Hugging Face hub"),
        ("notes.txt", "not one of the file types"),
        ("empty", "the folder holds no"),
    ],
)
def test_bad_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        data.resolve([entry], "train", None)
    assert f"data.train: {entry}" in str(error.value)
    assert says in str(error.value)
