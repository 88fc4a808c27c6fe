"""Weights: exact shares, every example used, the same order for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.train.data import mixing

weight = st.floats(min_value=0.01, max_value=100)
sizes = st.lists(st.tuples(st.integers(1, 50), weight), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("counts", "weights", "limit", "taken"),
    [
        ([10, 10], [1, 1], None, [10, 10]),
        ([10, 30], [1, 1], None, [30, 30]),
        ([30, 10], [3, 1], None, [30, 10]),
        ([100, 3], [0.7, 0.3], None, [100, 43]),
        ([3], [0.3], None, [3]),
        ([10, 30], [1, 1], 10, [5, 5]),
        ([10, 30], [2, 1], 10, [7, 3]),
        ([10, 30], [1, 1], 1000, [30, 30]),
    ],
)
def test_takes(counts: list[int], weights: list[float], limit: int | None, taken: list[int]) -> None:
    assert mixing.takes(counts, weights, limit) == taken


@given(sizes)
def test_every_example_is_used_and_the_shares_are_exact(sources: list[tuple[int, float]]) -> None:
    counts, weights = [count for count, _ in sources], [weight for _, weight in sources]
    taken = mixing.takes(counts, weights, None)
    assert all(take >= count for take, count in zip(taken, counts, strict=True))
    assert any(take - count <= 1 + take * 1e-9 for take, count in zip(taken, counts, strict=True)), "more than needed"
    for take, share in zip(taken, weights, strict=True):
        assert abs(take - sum(taken) * share / sum(weights)) < 1 + 1e-6


@given(st.integers(0, 10_000), st.lists(weight, min_size=1, max_size=5))
def test_apportion_adds_up(total: int, weights: list[float]) -> None:
    given = mixing.apportion(total, weights)
    assert sum(given) == total
    assert all(abs(g - total * w / sum(weights)) < 1 + 1e-6 for g, w in zip(given, weights, strict=True))


def test_indices() -> None:
    rows = mixing.indices([4, 10], [10, 5], seed=7).tolist()
    first, second = Counter(r for r in rows if r < 4), Counter(r for r in rows if r >= 4)
    assert sorted(first.values()) == [2, 2, 3, 3], "two whole passes and two of the four once more"
    assert len(second) == 5
    assert set(second.values()) == {1}
    assert max(second) < 14
    assert rows == mixing.indices([4, 10], [10, 5], seed=7).tolist()
    assert rows != mixing.indices([4, 10], [10, 5], seed=8).tolist()
    assert [r >= 4 for r in rows] != [False] * 10 + [True] * 5, "the sources come one after the other"
    assert mixing.indices([4, 10], [0, 5], seed=7).min() >= 4
