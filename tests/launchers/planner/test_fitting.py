"""The best way to the same optimizer step: what is promised of it holds for any setup."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from alignlaunch.launchers.planner import fitting, memory, micro_batches, strategies
from alignlaunch.launchers.planner.memory import GIB
from alignlaunch.launchers.planner.strategies import Limits
from alignlaunch.train.config import Lora

from .test_speed import LLAMA_8B, setup


@given(share=st.integers(1, 100_000))
def test_micro_batches_are_all_divisors_from_the_largest(share: int) -> None:
    found = micro_batches.of(share)
    assert (found[0], found[-1], found) == (share, 1, sorted(found, reverse=True))
    assert set(found) == {micro for micro in range(1, share + 1) if share % micro == 0} or share > 2000


@given(
    samples=st.integers(1, 32),
    accumulation=st.integers(1, 12),
    length=st.sampled_from([256, 2048, 16384]),
    gib=st.sampled_from([16, 24, 40, 80, 141]),
    lora=st.none() | st.just(Lora()),
    zero=st.sampled_from([0, 2, 3]),
    pairs=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_same_step_that_fits_and_is_found_again(
    *, samples: int, accumulation: int, length: int, gib: int, lora: Lora | None, zero: int, pairs: bool
) -> None:
    each = 1 + pairs
    stage = "rm" if pairs else "sft"
    more = {"sequences": samples * each, "sequences_per_sample": each, "accumulation": accumulation, "stage": stage}
    job = strategies.sharded(setup(LLAMA_8B, length, lora, **more), zero, "none")
    limits = Limits(gib * GIB, None)
    found = fitting.best(job, strategies.shardings(job), limits)
    for one in found:
        assert one.samples * one.accumulation == samples * accumulation
        assert memory.peak(one).total <= (1 - fitting.SPARE) * gib * GIB - strategies.OVERHEAD
        larger = [size for size in micro_batches.of(samples * accumulation) if size > one.samples]
        if larger:
            free = Limits((1 - fitting.SPARE) * gib * GIB, None)
            assert not free.fit(strategies.with_samples(one, larger[-1]))
    if found:
        best = found[0]
        assert fitting.best(best, strategies.shardings(best), limits)[0] == best  # `plan --apply` has an end


def test_enough_tokens_in_a_pass_come_before_what_is_moved() -> None:
    """On some GPUs what moves least for an adapter on 8B leaves room for one of a step's 61 short sequences."""
    job = setup(LLAMA_8B, 512, Lora(), accumulation=61)
    decided = 0
    for gib in range(18, 40):
        best, *others = fitting.best(job, strategies.shardings(job), Limits(gib * GIB, None))
        for other in others:
            if other.offload == best.offload and strategies.cost(other)[1] < strategies.cost(best)[1]:
                assert other.tokens < min(best.tokens, fitting.ENOUGH)
                decided += best.tokens >= fitting.ENOUGH
    assert decided
