"""The curves of metrics.jsonl: every line counts, whatever else lies between them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.results import records, thinning
from alignlaunch.launchers.results.records import Point
from tests.support.results import line


def read(folder: Path, *lines: str) -> records.Curves:
    path = folder / "metrics.jsonl"
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return records.read(path)


def test_values_by_name_and_step(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        line(0, 3, event="started"),
        *(line(step, 3, loss=4.0 - step, epoch=step / 3) for step in (1, 2, 3)),
        line(3, 3, eval_loss=2),
    )
    assert (found.step, found.max_steps, found.no_records) == (3, 3, 0)
    assert found.of.keys() == {"loss", "eval_loss"}
    loss = found.of["loss"]
    assert (list(loss.steps), list(loss.values)) == ([1, 2, 3], [3.0, 2.0, 1.0])
    assert (loss.count, loss.last, loss.low, loss.high, loss.middle) == (
        3,
        Point(3, 1.0),
        Point(3, 1.0),
        Point(1, 3.0),
        2.0,
    )
    assert found.of["eval_loss"].last == Point(3, 2.0)


def test_of_a_step_that_comes_again_the_later_value_counts(tmp_path: Path) -> None:
    """As after a restart; also far into a file, where lines are decoded many at a time."""
    before = [line(step, 9000, loss=1.0) for step in range(1, 9001)]
    after = [line(step, 9000, loss=2.0) for step in range(5000, 8001)]
    loss = read(tmp_path, *before, line(4999, 9000, event="resumed"), *after).of["loss"]
    assert loss.count == 9000
    assert dict(zip(loss.steps, loss.values, strict=True)) == {
        step: 2.0 if 5000 <= step <= 8000 else 1.0 for step in loss.steps
    }


def test_a_peak_among_many_lines_is_kept(tmp_path: Path) -> None:
    lines = [line(step, 50_000, loss=1.0 + step % 7 / 10) for step in range(1, 50_001)]
    lines[31_234] = line(31_235, 50_000, loss=99.0)
    lines[41_234] = line(41_235, 50_000, loss=-5.0)
    loss = read(tmp_path, *lines).of["loss"]
    assert loss.is_thinned
    assert len(loss.values) <= records.MOST_POINTS
    assert (loss.high, loss.low) == (Point(31_235, 99.0), Point(41_235, -5.0))
    assert {(31_235, 99.0), (41_235, -5.0)} <= set(zip(loss.steps, loss.values, strict=True))


@given(st.lists(st.floats(-1e300, 1e300), max_size=400), st.integers(4, 40))
def test_thinning_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    kept = thinning.kept(values, most)
    assert len(kept) <= most
    assert kept == sorted(set(kept))
    if values:
        assert (kept[0], kept[-1]) == (0, len(values) - 1)
        assert {min(values), max(values)} <= {values[i] for i in kept}


@pytest.mark.parametrize(
    ("odd", "no_records", "unusable"),
    [
        *(("", 0, 0), ("garbage", 1, 0), ("[]", 1, 0), ("null", 1, 0), ("[" * 5000, 1, 0), ("\x00\x85", 1, 0)),
        ('{"step": 2, "max_steps": 3, "time": 1.0, "lo', 1, 0),
        ('{"step": -1, "loss": 1}', 1, 0),
        ('{"step": "2", "loss": 1}', 1, 0),
        ('{"step": 99999999999999999999999, "loss": 1}', 1, 0),
        ('{"loss": 1}', 1, 0),
        ('{"step": 2, "loss": "1.0"}', 0, 0),
        ('{"step": 2, "loss": true}', 0, 0),
        ('{"step": 2, "loss": {"a": 1}}', 0, 0),
        ('{"step": 2, "loss": NaN}', 0, 1),
        ('{"step": 2, "loss": -Infinity}', 0, 1),
        ('{"step": 2, "loss": 1e999}', 0, 1),
        ('{"step": 2, "loss": 1' + "0" * 400 + "}", 0, 1),
        ('{"step": 2, "max_steps": NaN, "time": "x", "event": 7}', 0, 0),
    ],
)
def test_a_line_that_is_odd_harms_no_other(tmp_path: Path, odd: str, no_records: int, unusable: int) -> None:
    found = read(tmp_path, line(1, 3, loss=3.0), odd, line(3, 3, loss=1.0))
    loss = found.of["loss"]
    assert (list(loss.steps), list(loss.values)) == ([1, 3], [3.0, 1.0])
    assert (found.no_records, loss.unusable) == (no_records, unusable)
    assert loss.unusable_from == (2 if unusable else 0)
    assert not loss.is_thinned


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x00b", "\ud800", "", "é", "step", "</script>"])
def test_any_name(tmp_path: Path, name: str) -> None:
    lines = [
        json.dumps({"step": step, "max_steps": 9, "time": 1.0, "loss": 1.0, name: step}) for step in range(1, 3000)
    ]
    found = read(tmp_path, *lines)
    assert found.of["loss"].count == 2999
    assert [curve.last.value for told, curve in found.of.items() if told != "loss"] == [2999.0] * (name != "step")
    for told in found.of:
        told.encode()


def test_a_last_value_that_is_no_number_is_not_hidden(tmp_path: Path) -> None:
    loss = read(tmp_path, line(1, 2, loss=3.0), line(2, 2, loss=math.nan)).of["loss"]
    assert loss.last.step == 2
    assert math.isnan(loss.last.value)
    assert loss.low == Point(1, 3.0)


def test_nothing_but_what_is_no_number(tmp_path: Path) -> None:
    loss = read(tmp_path, line(1, 2, loss=math.nan)).of["loss"]
    assert (loss.low, loss.high, loss.middle, list(loss.values)) == (None, None, None, [])


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1, 3, loss=3.0) + "\n" + line(2, 3, loss=2.0)[:-4])
    assert list(records.read(path).of["loss"].steps) == [1]
    path.write_text(line(1, 3, loss=3.0) + "\n" + line(2, 3, loss=2.0))  # whole, but without its end
    assert list(records.read(path).of["loss"].steps) == [1, 2]


def test_a_file_without_line_ends_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        file.write(line(1, 3, loss=3.0) + "\n")
        file.writelines("a" * (1 << 20) for _ in range(20))
        file.write("\n" + line(2, 3, loss=2.0) + "\n")
    found = records.read(path)
    assert (list(found.of["loss"].steps), found.no_records) == ([1, 2], 1)


def test_endless_names_are_left_out_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, *(line(step, 3, **{f"name {step}": 1.0}) for step in range(1, 2000)))
    assert found.names_left_out
    assert len(found.of) == 500
