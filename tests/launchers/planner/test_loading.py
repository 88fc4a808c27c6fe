"""The host memory of loading, beside what `bench/loading.py` measured: 8 ranks on one node."""

from __future__ import annotations

import pytest
from bench import loading

from alignlaunch.launchers.planner import memory


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folders with the configurations alone."""
    loading.PLACE = tmp_path_factory.mktemp("loading")
    for name, config in (("model", loading.CONFIG), ("large", loading.LARGE)):
        loading.write_config(name, config)


#: Bytes, in the order of the strategies.
MEASURED = dict(
    zip(
        loading.STRATEGIES,
        (6_998_317_056, 7_247_405_056, 6_936_330_240, 8_577_881_088, 8_821_560_320),
        strict=True,
    )
)


@pytest.mark.parametrize("strategy", loading.STRATEGIES, ids=lambda strategy: strategy.name)
def test_the_plan_is_hardly_below_what_was_measured(strategy: loading.Strategy) -> None:
    """And above it by what 8 ranks on 2 cores hardly do: hold their largest module at the same moment."""
    found = sum(memory.host(loading.setup("model", strategy)).values())
    assert 0.9 * MEASURED[strategy] < found < 1.3 * MEASURED[strategy]


def test_a_large_model_is_not_counted_once_a_rank() -> None:
    """32B on 8 ranks: 61 GiB of files, and the embedding table 8 times."""
    full = loading.STRATEGIES[1]
    assert sum(memory.host(loading.setup("large", full)).values()) / 2**30 == pytest.approx(61.0 + 8 * 2.9, rel=0.01)
