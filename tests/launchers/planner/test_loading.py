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
        (1_396_948_992, 1_520_129_024, 1_410_952_192, 1_463_583_744, 1_532_598_272),
        strict=True,
    )
)


@pytest.mark.parametrize("strategy", loading.STRATEGIES, ids=lambda strategy: strategy.name)
def test_the_plan_is_within_15_percent_of_what_was_measured(strategy: loading.Strategy) -> None:
    found = sum(memory.host(loading.setup("model", strategy)).values())
    assert found == pytest.approx(MEASURED[strategy], rel=0.15)


def test_a_large_model_is_not_counted_once_a_rank() -> None:
    """32B on 8 ranks: 61 GiB of files, and the embedding table 8 times."""
    full = loading.STRATEGIES[1]
    assert sum(memory.host(loading.setup("large", full)).values()) / 2**30 == pytest.approx(61.0 + 8 * 2.9, rel=0.01)
