"""Which records are taken: a share for evaluation, a limit, and both with the weights of sources."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.data import sampling, sources
from alignlaunch.train.errors import UserError

from .preparing import lines, numbered, prepare


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
