"""From sources to rows: what is read, counted and left out, and what is said of bad records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.data.encoding.tokens import Encoded
from alignlaunch.train.data.formats.preferences import preference
from alignlaunch.train.errors import UserError

from .preparing import GOOD, lines, prepare


def test_sources_in_their_order(tmp_path: Path) -> None:
    one, other = lines(tmp_path / "one.jsonl", "1"), lines(tmp_path / "folder" / "b.jsonl", "333")
    lines(tmp_path / "folder" / "a.jsonl", "22")
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text('{"q": "p", "a": "4444"}')
    columns = {"prompt": "q", "completion": "a"}
    train = [f"{one}, {Path(other).parent}", {"path": str(renamed), "columns": columns}]
    rows, report = prepare(tmp_path, train)
    assert rows == [[1], [2], [3], [4]]
    assert (report.records, report.sequences) == (4, [1, 2, 1])
    assert prepare(tmp_path, [str(renamed)], columns=columns)[0] == [[4]], "data.columns serves every source"
    assert prepare(tmp_path, [one, {"path": str(renamed), "columns": columns}], columns={})[0] == [[1], [4]]


def test_counts(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", "a", "long", "none", "b")
    rows, report = prepare(tmp_path, [path])
    assert rows == [[1], [4], [1]]
    assert (report.records, report.sequences, report.truncated, report.dropped) == (4, [3], 1, {"nothing to learn": 1})
    assert "4 records -> 3 sequences (1 truncated, 1 dropped; 1: nothing to learn)" in str(report)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "there is not one record"),
        ("[]", "there is not one record"),
        (json.dumps(GOOD) + "\n\n{bad\n", "x.jsonl:3: not JSON"),
        (json.dumps(GOOD) + "\n[1]\n", "x.jsonl:2: holds a list"),
        (json.dumps(GOOD) + '\n{"text": "x"}\n', "x.jsonl:2: columns found: text; accepted: "),
        (json.dumps(GOOD | {"completion": "none"}), "all 1 records were dropped: raise max_length"),
        (b'{"prompt": "\xff"}', "x.jsonl:1: not UTF-8 text"),
    ],
)
def test_bad_content(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        prepare(tmp_path, [str(path)])
    assert str(path) in str(error.value)
    assert says in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == [], "a failed preparation left files"


def test_bad_records_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    bad = [b"{cut", b'{"prompt": "p"}', b'{"prompt": "p", "completion": ""}', b'"\xff"', b"[]"]
    path.write_bytes(b"\n".join([json.dumps(GOOD).encode(), *bad, *[b"{}"] * 20, json.dumps(GOOD).encode()]))
    with pytest.raises(
        UserError, match=r"x\.jsonl:2: not JSON.*`data\.skip_bad_records: true` leaves such records out"
    ):
        prepare(tmp_path, [str(path)])
    rows, report = prepare(tmp_path, [str(path)], skip_bad_records=True)
    assert rows == [[1], [1]]
    assert (report.records, report.skipped, len(report.bad)) == (2, 25, 20)
    assert [entry.partition(": ")[0] for entry in report.bad] == [f"{path}:{line}" for line in range(2, 22)]
    assert f"; 25 bad records skipped:\n  {path}:2: not JSON" in str(report)
    assert str(report).endswith("\n  and 5 more")
    assert prepare(tmp_path, [str(path)], skip_bad_records=True, max_train_samples=1)[1].records == 1
    path.write_text("{}\n{}\n")
    with pytest.raises(UserError, match=r"all 2 records are bad, such as .*x\.jsonl:1: columns found: none"):
        prepare(tmp_path, [str(path)], skip_bad_records=True)


def test_a_file_that_cannot_be_read_is_never_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"prompt": "p", "completion": "c"},')
    with pytest.raises(UserError, match=r"x\.json:1: not JSON"):
        prepare(tmp_path, [str(tmp_path / "x.json")], skip_bad_records=True)


def test_rows_must_be_alike(tmp_path: Path) -> None:
    def with_margin(record: dict[str, Any]) -> Encoded:
        found = preference(record)
        return Encoded([{"input_ids": [1]} | ({} if found.margin is None else {"margin": found.margin})])

    path = tmp_path / "x.jsonl"
    pairs = [{"prompt": "p", "chosen": "a", "rejected": "b"}] * 2
    path.write_text("\n".join(json.dumps(pair | {"margin": 0.5}) for pair in pairs))
    assert prepare(tmp_path, [str(path)], encode=with_margin)[0] == [[1], [1]]
    path.write_text("\n".join(map(json.dumps, [pairs[0], pairs[1] | {"margin": 2}])))
    with pytest.raises(UserError, match=r"x\.jsonl:2: `margin` must be in every record or in none"):
        prepare(tmp_path, [str(path)], encode=with_margin)
