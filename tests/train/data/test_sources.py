"""Files of every type, and what is said of bad ones: always with the file, and with the line where there are lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.config import Source
from alignlaunch.train.data import sources
from alignlaunch.train.data.formats.turns import FormatError
from alignlaunch.train.data.sources import Selection
from alignlaunch.train.errors import UserError


def records(path: Path, columns: dict[str, str] | None = None) -> list[Any]:
    return [found for _, found in sources.read(path, Selection(tuple((columns or {}).items())))]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.jsonl", '{"a": 1}\n\n{"a": 2}\n'),
        ("lines.json", '{"a": 1}\r\n{"a": 2}'),
        ("array.json", '[{"a": 1}, {"a": 2}]'),
        ("pretty.jsonl", '\n[\n  {"a": 1},\n  {\n    "a": 2\n  }\n]\n'),
        ("mark.jsonl", b'\xef\xbb\xbf{"a": 1}\n{"a": 2}'),
        ("mark.json", b'\xef\xbb\xbf[{"a": 1}, {"a": 2}]'),
        ("packed.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": 2}\n')),
        ("packed.json.gz", gzip.compress(b'[{"a": 1},\n{"a": 2}]')),
    ],
)
def test_json(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert records(write(tmp_path / name, content)) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", []), ("\n \n", []), ("[]", []), ("[ ]\n", []), ('{\n"a": 1\n}', [{"a": 1}]), ('{"a": 1}', [{"a": 1}])],
)
def test_few_records(tmp_path: Path, content: str, expected: list[Any]) -> None:
    assert records(write(tmp_path / "x.json", content)) == expected


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([{"a": 1, "m": [{"role": "user"}]}, {"a": 2, "m": []}]), path)
    assert list(sources.read(path)) == [
        (f"{path}: record 1", {"a": 1, "m": [{"role": "user"}]}),
        (f"{path}: record 2", {"a": 2, "m": []}),
    ]


def test_a_text_file_is_one_record(tmp_path: Path) -> None:
    assert records(write(tmp_path / "x.txt", "one\r\n\ntwo\n")) == [{"text": "one\n\ntwo\n"}]


def test_places_are_lines(tmp_path: Path) -> None:
    lines = write(tmp_path / "x.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')
    array = write(tmp_path / "x.json", '\n[\n{"a":\n1}, {"a": 2},\n\n{"a": 3}]')
    assert [place for place, _ in sources.read(lines)] == [f"{lines}:2", f"{lines}:4"]
    assert [place for place, _ in sources.read(array)] == [f"{array}:3", f"{array}:4", f"{array}:6"]


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ('{"a": 1}\n{bad\n{"a": 3}', 2, "not JSON: Expecting property name"),
        ('{"a": 1\n{"a": 2}\n{"a": 3}', 1, "not JSON: Expecting ',' delimiter"),
        ('{"a": 1}\n{"a": 2}\n{"a": "cut o', 3, "not JSON: Unterminated string"),
        ('{"a": 1}\r\n{"a": "cut o\r\n{"a": 3}', 2, "not JSON: Unterminated string"),
        ('{"a": 1}\n[1]\n{"a": 3}', 2, "holds a list"),
        ('{"a": 1}\n"text"\n{"a": 3}', 2, "holds a str"),
        ('[{"a": 1},\n3,\n{"a": 2}]', 2, "holds a int"),
        (b'{"a": 1}\n{"a": "caf\xe9"}\n{"a": 3}', 2, "not UTF-8 text: invalid continuation byte at byte 11"),
        (r'{"a": "\ud83d"}' "\n" r'{"a": "\ud83d\ude00"}' '\n{"a": 3}', 1, "half a character ('\\ud83d')"),
        ('{"a": 1}\n' + "[" * 100_000 + '\n{"a": 3}', 2, "not JSON that can be read"),
        ('{"a": 1}\n{"a": ' + "9" * 5000 + '}\n{"a": 3}', 2, "not JSON that can be read"),
    ],
)
def test_a_bad_record_is_told_and_the_others_are_read(
    tmp_path: Path, content: str | bytes, line: int, says: str
) -> None:
    path = write(tmp_path / "x.jsonl", content)
    found = list(sources.read(path))
    ((place, error),) = [(place, each) for place, each in found if isinstance(each, FormatError)]
    assert len(found) == 3
    assert place == f"{path}:{line}"
    assert says in str(error)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", '[\n{"a": 1,}\n]', ":2: not JSON: "),
        ("x.json", '[{"a": 1},\n]', ":2: not JSON: Expecting value"),
        ("x.json", '[{"a": 1}\n{"a": 2}]', ":2: not JSON: Expecting ',' delimiter"),
        ("x.json", '[{"a": 1},\n{"a": 2}', ":2: not JSON: Expecting ',' delimiter"),
        ("x.json", '[{"a": 1},\n{"a": "cut', ":2: not JSON: Unterminated string"),
        ("x.json", '[{"a": 1}]\n{"a": 2}', ":2: not JSON: Extra data"),
        ("x.json", '{\n"a": 1\n}\n{"a": 2}', ":4: not JSON: Extra data"),
        ("x.json", b'[{"a":\n"\xff"}]', ":2: not UTF-8 text"),
        ("x.json", "[" * 100_000, ": not JSON that can be read"),
        ("x.jsonl.gz", b'{"a": 1}', ": not a whole gzip file"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}' * 1000)[:20], ": not a whole gzip file"),
        ("x.parquet", b"PAR1 not", ": not a parquet file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        records(path)
    assert f"{path}{says}" in str(error.value)


def test_columns_are_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", json.dumps({"question": "q", "prompt": "old", "good": "a", "bad": "b", "id": 1}))
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert records(path, columns) == [{"prompt": "q", "chosen": "a", "rejected": "b", "id": 1}]
    assert records(path, {"good": "bad", "bad": "good"})[0]["good"] == "b", "two columns may change places"
    (error,) = records(path, {"prompt": "qestion"})
    assert str(error) == ("no column qestion, which `columns` names; columns found: question, prompt, good, bad, id")


def test_columns_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", json.dumps({"prompt": "p", "history": [["q", "a"]], "id": 1}))
    assert [found for _, found in sources.read(path, Selection((), ("history", "absent")))] == [
        {"prompt": "p", "id": 1}
    ]


def test_a_table_fills_every_map_with_the_keys_of_all(tmp_path: Path) -> None:
    """Arguments of a tool call that no record made must not be learnt."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"m": [{"arguments": {"city": "Paris"}}]}, {"m": [{"arguments": {"term": "x"}}, {"arguments": {}}]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert records(tmp_path / "x.parquet") == rows


def test_folders(tmp_path: Path) -> None:
    for name in ("b/deep.jsonl", "a.json", "notes.txt", "c.jsonl.gz", "README.md"):
        write(tmp_path / name, "")
    (tmp_path / "d.json").mkdir()

    def names(stage: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in sources.files(tmp_path, "train", stage=stage)]

    assert names("sft") == ["a.json", "b/deep.jsonl", "c.jsonl.gz"]
    assert names("pt") == ["a.json", "b/deep.jsonl", "c.jsonl.gz", "notes.txt"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("./absent.jsonl", "no such file or folder"),
        ("owner/name", "could not be loaded from the Hugging Face hub"),
        (
            "notes.txt",
            "not one of the file types .json, .jsonl, .json.gz, .jsonl.gz, .parquet. Plain text is for stage pt",
        ),
        ("empty", "the folder holds no file of type .json"),
    ],
)
def test_bad_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        sources.find(Source(path=entry), "train", stage="sft", cache_dir=None)
    assert f"data.train: {entry}" in str(error.value)
    assert says in str(error.value)


def test_the_identity_follows_content_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", "{}")

    def identity(**columns: str) -> str:
        (part,) = sources.find(Source(path=str(path), columns=columns), "train", stage="sft", cache_dir=None)
        return part.identity

    before = identity()
    assert identity(a="b") != before
    assert identity() == before
    write(path, "{ }")
    assert identity() != before
