"""From sources to rows: what is counted, held out, mixed and kept, and what is said of bad records."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.config import Data, Role
from alignlaunch.train.data import cache, preparation, sampling, sources
from alignlaunch.train.data.encoding import encoders
from alignlaunch.train.data.encoding.encoders import Encoder
from alignlaunch.train.data.encoding.tokens import Encoded
from alignlaunch.train.data.formats import readers
from alignlaunch.train.data.formats.preferences import preference
from alignlaunch.train.data.formats.sft import example
from alignlaunch.train.errors import UserError

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
    import datasets  # type: ignore[import-untyped]
    import msgspec

    job = msgspec.convert({"train": train, **keys}, Data)
    todo = preparation.Preparation(
        role=role, data=job, stage="sft", encode=encode, key="k", seed=seed, processes=processes
    )
    place, report = preparation.prepare(todo, folder / "cache")
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


def test_counts(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", "a", "long", "none", "b")
    rows, report = prepare(tmp_path, [path])
    assert rows == [[1], [4], [1]]
    assert (report.records, report.sequences, report.truncated, report.dropped) == (4, [3], 1, {"nothing to learn": 1})
    assert "4 records -> 3 sequences (1 truncated, 1 dropped; 1: nothing to learn)" in str(report)


def test_prepared_once_and_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "x.jsonl", "a")
    assert prepare(tmp_path, [path])[0] == [[1]]
    calls: list[Any] = []
    monkeypatch.setattr(cache, "write", lambda *args: calls.append(args))
    assert prepare(tmp_path, [path])[0] == [[1]]
    assert calls == []
    monkeypatch.undo()
    lines(tmp_path / "x.jsonl", "abc")
    assert prepare(tmp_path, [path])[0] == [[3]]


def test_another_job_that_was_faster_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be reading it already. Both prepare: the second one meets the first one's folder only at the end."""
    path = lines(tmp_path / "x.jsonl", "a", "bb")
    write = cache.write
    first: list[int] = []

    def slow_write(*args: Any) -> None:
        write(*args)
        monkeypatch.setattr(cache, "write", write)
        prepare(tmp_path, [path])
        first.extend(file.stat().st_ino for file in (tmp_path / "cache").rglob("*.*"))

    monkeypatch.setattr(cache, "write", slow_write)
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
    with pytest.raises(UserError, match=r"x\.jsonl:2: `margin` must be in every record or in none"):
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


# --- only so many ---


def numbered(path: Path, count: int, first: int = 1) -> str:
    """Records whose rows are their numbers."""
    return lines(path, *("x" * n for n in range(first, first + count)))


def test_so_many_are_drawn_from_every_source_by_seed(tmp_path: Path) -> None:
    one, other = numbered(tmp_path / "one.jsonl", 80), numbered(tmp_path / "other.jsonl", 20, 101)
    rows, report = prepare(tmp_path, [one, other], max_train_samples=10)
    numbers = [row[0] for row in rows]
    assert (report.sequences, report.left_out) == ([8, 2], [72, 18])
    assert numbers == sorted(numbers), "in their order"
    assert numbers[:8] != [*range(1, 9)], "the first ones"
    assert prepare(tmp_path, [one, other], max_train_samples=10)[0] == rows
    again = prepare(tmp_path, [one, other], max_train_samples=10, seed=4)[0]
    assert len(again) == 10
    assert again != rows, "another seed draws others"
    whole, report = prepare(tmp_path, [one, other], max_train_samples=100)
    assert (len(whole), report.left_out) == (100, [0, 0])
    few = prepare(tmp_path, [one, numbered(tmp_path / "few.jsonl", 1, 200)], max_train_samples=10)
    assert few[1].sequences == [9, 1], "a source that has some gives some"


def test_each_record_has_the_same_chance() -> None:
    drawn = [at for seed in range(200) for at in sampling.drawn(range(10), 3, seed)]
    counts = [drawn.count(at) for at in range(10)]
    assert sum(counts) == 600
    assert 35 < min(counts) <= max(counts) < 90, counts  # 60 each, give or take 4 standard deviations


@pytest.mark.parametrize(
    ("limit", "sizes", "weights", "expected"),
    [
        (10, [80, 20], None, [8, 2]),
        (10, [1000, 1, 0], None, [9, 1, 0]),
        (1, [5, 5], None, [1, 0]),
        (99, [5, 5], None, [5, 5]),
        (10, [80, 20], [1, 1], [5, 5]),
        (10, [80, 2], [1, 1], [5, 2]),
    ],
)
def test_shares(limit: int, sizes: list[int], weights: list[float] | None, expected: list[int]) -> None:
    assert sampling.shares(limit, sizes, weights) == expected


def test_what_is_not_drawn_is_not_even_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "x.jsonl", *["a"] * 50)
    read: list[bytes] = []
    line = sources._line

    def counting(text: bytes) -> Any:
        read.append(text)
        return line(text)

    monkeypatch.setattr(sources, "_line", counting)
    prepare(tmp_path, [path], max_train_samples=3)
    assert len(read) == 3


def test_bad_records_are_not_drawn_where_they_are_skipped(tmp_path: Path) -> None:
    path = Path(numbered(tmp_path / "x.jsonl", 20))
    path.write_text("{}\n" * 30 + path.read_text())
    assert prepare(tmp_path, [str(path)], max_train_samples=15, skip_bad_records=True)[1].records == 15


# --- several processes ---


def fails(record: dict[str, Any]) -> Encoded:
    if record["completion"] == "xxx":
        os._exit(9)
    return encode(record)


def test_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    path = Path(numbered(tmp_path / "x.jsonl", 450))
    path.write_text(path.read_text() + "{}\n" * 3 + json.dumps(GOOD | {"completion": "none"}))
    found: list[tuple[bytes, preparation.Report]] = []
    for processes in (1, 2, 5):
        cache = tmp_path / str(processes)
        rows, report = prepare(cache, [str(path)], processes=processes, skip_bad_records=True)
        assert [row[0] for row in rows] == [*range(1, 451)]
        (arrow,) = cache.rglob("data.arrow")
        found.append((arrow.read_bytes(), report))
    assert found[0] == found[1] == found[2]
    assert (report.records, report.skipped, report.dropped) == (451, 3, {"nothing to learn": 1})


def test_processes_tell_the_first_bad_record(tmp_path: Path) -> None:
    path = Path(numbered(tmp_path / "x.jsonl", 450))
    path.write_text(path.read_text() + "{}\n{cut\n")
    with pytest.raises(UserError, match=r"x\.jsonl:451: columns found: none"):
        prepare(tmp_path, [str(path)], processes=2)


def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    path = numbered(tmp_path / "x.jsonl", 250)
    with pytest.raises(UserError, match=r"one of the 2 processes that tokenise was killed.*train\.dataset_num_proc"):
        prepare(tmp_path, [path], processes=2, encode=fails)


def test_no_process_outlives_the_one_that_waits(tmp_path: Path) -> None:
    """Else a job that is killed would leave them on the node."""
    code = (
        "import os, sys, time; from pathlib import Path; from alignlaunch.train.data import workers\n"
        "def encode(record, folder):\n"
        "    os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)\n"  # one write: print may make two
        "items = [((str(i), dict), Path()) for i in range(500)]\n"
        "list(workers.encoded(items, encode, 2, skip_bad=False))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        try:
            pids = [int(waiting.stdout.readline()) for _ in range(2)]
        finally:
            waiting.kill()
    for pid in pids:
        for _ in range(100):
            status = Path(f"/proc/{pid}/status")
            if not status.exists() or "State:\tZ" in status.read_text():
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{pid} is alive")


# --- the cache ---


def test_the_name_follows_what_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "def f(x):\n    return x\n"
    same = '"""A module."""\n\ndef f(x):  # a comment\n    """What it does."""\n    return (x)\n'
    assert cache.meaning(code) == cache.meaning(same) != cache.meaning("def f(x):\n    return -x\n")
    before = cache.name(["k"])
    assert cache.name(["k"]) == before != cache.name(["other"])
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda package: "0" if package == "tokenizers" else version(package))
    assert cache.name(["k"]) != before


def test_every_module_that_makes_rows_is_in_the_name() -> None:
    """Those that a stage's readers and encoders come from; what they import from elsewhere makes no rows."""
    code = cache._code()
    for function in (encoders.sft, encoders.dpo_images, readers.READERS["safe_dpo"], preparation.prepare):
        assert cache.meaning(Path(inspect.getfile(function)).read_text()) in code
    folder = Path(cache.__file__).parent
    imported = {
        alias.name if node.module in (None, "") else f"{node.module}"
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == len(path.relative_to(folder).parts) + 1
        for alias in node.names
    }
    assert imported <= {"config", "errors", "reporting", "processes", "processes.rendezvous"}, imported


def test_what_was_not_used_for_long_is_removed(tmp_path: Path) -> None:
    old, used = lines(tmp_path / "old.jsonl", "a"), lines(tmp_path / "used.jsonl", "b")
    prepare(tmp_path, [old])
    prepare(tmp_path, [used])
    cache = tmp_path / "cache"
    (cache / ".left.by_a_killed_run" / "x").mkdir(parents=True)
    (cache / ".at_work").mkdir()
    long_ago = time.time() - 31 * 24 * 3600
    for path in (*cache.glob("*/report.json"), cache / ".left.by_a_killed_run", cache / ".left.by_a_killed_run" / "x"):
        os.utime(path, (long_ago, long_ago))
    prepare(tmp_path, [used])
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [".at_work", *(path.parent.name for path in cache.glob("*/report.json"))]
    )
    (report,) = cache.glob("*/report.json")
    assert time.time() - report.stat().st_mtime < 3600, "it was used now"
