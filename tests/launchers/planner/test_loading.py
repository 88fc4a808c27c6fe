"""The host memory of loading, beside what `bench/loading.py` measured: 8 ranks on one node."""

from __future__ import annotations

import pytest
from bench import loading

from alignlaunch.launchers.planner import memory

#: A fiftieth of Qwen2.5-32B's parameters, and its largest module a fiftieth of its largest, or little less.
SMALL = {
    "vocab_size": 8192,
    "hidden_size": 1024,
    "intermediate_size": 5504,
    "num_hidden_layers": 32,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folders with the configurations alone."""
    loading.PLACE = tmp_path_factory.mktemp("loading")
    for name, config in (("small", SMALL), ("model", loading.CONFIG), ("large", loading.LARGE)):
        loading.write_config(name, config)


#: Bytes of a fiftieth and of a tenth of 32B, in the order of the strategies.
MEASURED = dict(
    zip(
        loading.STRATEGIES,
        zip(
            (1_396_948_992, 1_520_129_024, 1_410_952_192, 1_463_583_744, 1_532_598_272),
            (6_998_317_056, 7_247_405_056, 6_936_330_240, 8_577_881_088, 8_821_560_320),
            strict=True,
        ),
        strict=True,
    )
)


@pytest.mark.parametrize("strategy", loading.STRATEGIES, ids=lambda strategy: strategy.name)
def test_the_plan_is_within_15_percent_of_what_was_measured(strategy: loading.Strategy) -> None:
    found = sum(memory.host(loading.setup("small", strategy)).values())
    assert found == pytest.approx(MEASURED[strategy][0], rel=0.15)


@pytest.mark.parametrize("strategy", loading.STRATEGIES, ids=lambda strategy: strategy.name)
def test_the_plan_is_hardly_below_what_was_measured(strategy: loading.Strategy) -> None:
    """And above it, as the largest modules are read first, when little of the files is mapped."""
    found = sum(memory.host(loading.setup("model", strategy)).values())
    assert 0.9 * MEASURED[strategy][1] < found < 1.3 * MEASURED[strategy][1]


def test_a_large_model_is_not_counted_once_a_rank() -> None:
    """32B on 8 ranks: 61 GiB of files, and the embedding table 8 times."""
    full = loading.STRATEGIES[1]
    assert sum(memory.host(loading.setup("large", full)).values()) / 2**30 == pytest.approx(61.0 + 8 * 2.9, rel=0.01)
