"""From sources to rows: what is counted, held out, mixed and kept, and what is said of bad records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train import data, sources
from alignlaunch.train.config import Data, Role
from alignlaunch.train.encoding import Encoded
from alignlaunch.train.errors import UserError
from alignlaunch.train.preference_formats import preference
from alignlaunch.train.sft_formats import example

GOOD = {"prompt": "p", "completion": "c"}


def encode(record: dict[str, Any]) -> Encoded:
    """A stand-in for a tokenizer: the length of the completion; `long` is cut, `none` dropped."""
    text = str(example(record).completion)
    return Encoded([] if text == "none" else [{"input_ids": [len(text)], "n": 1}], truncated=text == "long")


def prepare(
    folder: Path, train: list[Any], role: Role = "train", encode: data.Encoder = encode, **keys: Any
) -> tuple[list[list[int]], data.Report]:
    import datasets  # type: ignore[import-untyped]
    import msgspec

    job = msgspec.convert({"train": train, **keys}, Data)
    place, report = data.prepare(role, job, "sft", encode, key="k", root=folder / "cache")
    return datasets.Dataset.from_file(str(place / "data.arrow"))["input_ids"][:], report


def lines(path: Path, *texts: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": "p", "completion": text}) + "\n" for text in texts))
    return str(path)


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


def test_counts_and_limit(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", "a", "long", "none", "b", "c")
    rows, report = prepare(tmp_path, [path], max_train_samples=4)
    assert rows == [[1], [4], [1]]
    assert (report.records, report.sequences, report.truncated, report.dropped) == (4, [3], 1, 1)
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


def test_another_job_that_was_faster_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be reading it already. Both prepare: the second one meets the first one's folder only at the end."""
    path = lines(tmp_path / "x.jsonl", "a", "bb")
    write = data._write
    first: list[int] = []

    def slow_write(*args: Any) -> None:
        write(*args)
        monkeypatch.setattr(data, "_write", write)
        prepare(tmp_path, [path])
        first.extend(file.stat().st_ino for file in (tmp_path / "cache").rglob("*.*"))

    monkeypatch.setattr(data, "_write", slow_write)
    assert prepare(tmp_path, [path])[0] == [[1], [2]]
    left = [file.stat().st_ino for file in (tmp_path / "cache").rglob("*.*")]
    assert len(left) == 2, "only data.arrow and report.json"
    assert set(left) <= set(first), "the files of the first job were replaced"


def test_a_folder_of_which_somebody_removed_a_part_is_made_again(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", "a")
    prepare(tmp_path, [path])
    (report,) = (tmp_path / "cache").rglob("report.json")
    report.unlink()
    assert prepare(tmp_path, [path])[0] == [[1]]
    assert len(list((tmp_path / "cache").iterdir())) == 1


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
    with pytest.raises(UserError, match=r"x\.jsonl:2: `margin` must stand in every record or in none"):
        prepare(tmp_path, [str(path)], encode=with_margin)


# --- a share for evaluation ---


def sides(folder: Path, texts: Iterable[str], share: float, **keys: Any) -> tuple[list[int], list[int]]:
    path = lines(folder / "x.jsonl", *texts)
    train, validation = (
        [row[0] for row in prepare(folder, [path], role, validation_share=share, **keys)[0]]
        for role in ("train", "validation")
    )
    return train, validation


def test_each_record_is_on_one_side_and_its_copy_on_the_same(tmp_path: Path) -> None:
    train, validation = sides(tmp_path, ["x" * n for n in (*range(1, 301), *range(1, 301))], 0.2)
    assert sorted(train + validation) == sorted([*range(1, 301)] * 2)
    assert not set(train) & set(validation)
    assert 0.13 < len(validation) / 600 < 0.27
    shutil.rmtree(tmp_path / "cache")
    assert sides(tmp_path, ["x" * n for n in range(1, 301)], 0.2)[1] == validation[: len(validation) // 2], (
        "not the same"
    )
    assert len(sides(tmp_path, ["x" * n for n in range(1, 301)], 0.2, max_eval_samples=5)[1]) == 5


def test_a_share_of_too_few_records(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.validation: .*x\.jsonl: no data: 0\.1% of so few records is none"):
        sides(tmp_path, ["a", "b"], 0.001)


# --- weights ---


def test_a_limit_is_shared_by_weight(tmp_path: Path) -> None:
    big, small = lines(tmp_path / "big.jsonl", *["a"] * 50), lines(tmp_path / "small.jsonl", *["bb"] * 50)
    train = [{"path": big, "weight": 3}, {"path": small, "weight": 1}]
    assert prepare(tmp_path, train, max_train_samples=20)[1].sequences == [15, 5]
    assert prepare(tmp_path, train, max_train_samples=1)[1].sequences == [1, 1], "each is needed to be mixed"
    assert prepare(tmp_path, train)[1].sequences == [50, 50]


def test_a_weighted_source_without_a_sequence(tmp_path: Path) -> None:
    good, empty = lines(tmp_path / "good.jsonl", "a"), lines(tmp_path / "empty.jsonl", "none")
    with pytest.raises(UserError, match=r"empty\.jsonl: no data: it cannot have the share"):
        prepare(tmp_path, [{"path": good, "weight": 1}, {"path": empty, "weight": 1}])
    assert prepare(tmp_path, [good, empty])[1].sequences == [1, 0]


def test_reading_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "x.jsonl", *["a"] * 50)
    read: list[str] = []
    original = sources.read

    def counting(*args: Any) -> Any:
        for place, found in original(*args):
            read.append(place)
            yield place, found

    monkeypatch.setattr(sources, "read", counting)
    prepare(tmp_path, [path], max_train_samples=3)
    assert len(read) == 3
