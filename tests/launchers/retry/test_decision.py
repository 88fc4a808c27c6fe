"""Whether a run that failed is tried again: the rules, and that no sequence of failures goes on for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.diagnose.patterns import PATTERNS, Retry
from alignlaunch.launchers.retry.decision import MOST_WITHOUT_PROGRESS, OF_ONE_NODE, Ended, decide

CAUSES = {pattern.name: pattern.retry for pattern in PATTERNS}


def ended(cause: str = "killed", step: int = -1, node: str = "", code: int = 1) -> Ended:
    return Ended(cause, CAUSES.get(cause), code, step, node)


def test_what_would_end_in_the_same_way_is_not_tried_again() -> None:
    for cause, retry in CAUSES.items():
        assert decide(ended(cause, step=10), []).again == (retry is not Retry.NEVER)
    assert not decide(ended("preflight", step=10, code=2), []).again


def test_an_unknown_cause_is_tried_again_only_after_progress() -> None:
    assert not decide(ended("unknown"), []).again
    assert decide(ended("unknown", step=100), []).again
    assert not decide(ended("unknown", step=100), [ended("unknown", step=100)]).again, "the same step twice"
    assert decide(ended("unknown", step=200), [ended("unknown", step=100)]).again


def test_the_budget_without_progress() -> None:
    before = [ended(step=100)]
    for _ in range(MOST_WITHOUT_PROGRESS - 1):
        assert decide(ended(step=100), before).again
        before.append(ended(step=100))
    last = decide(ended(step=100), before)
    assert not last.again
    assert f"{MOST_WITHOUT_PROGRESS} attempts in a row ended without a newer checkpoint" in last.why
    assert decide(ended(step=101), before).again


def test_a_node_is_left_out_if_the_fault_is_its_own_or_if_it_failed_first_twice() -> None:
    assert decide(ended("xid", node="n1"), []).without == "n1"
    assert decide(ended("killed", node="n1"), []).without == ""
    assert decide(ended("killed", node="n1"), [ended("segfault", node="n1")]).without == "n1"
    assert decide(ended("killed", node="n1"), [ended("segfault", node="n2")]).without == ""
    assert decide(ended("killed"), [ended("killed")]).without == "", "it is not known which node it was"


def test_a_node_is_not_blamed_for_what_it_only_met_first() -> None:
    assert {*CAUSES} >= OF_ONE_NODE
    lost = ended("peer-lost", node="n1")
    assert decide(lost, [lost]).without == ""
    assert decide(ended("killed", node="n1"), [lost]).without == ""
    assert decide(lost, [ended("killed", node="n1")]).without == ""


failures = st.builds(
    ended, st.sampled_from([*CAUSES, "unknown"]), st.integers(-1, 3), st.sampled_from(["", "n1", "n2"])
)


@given(st.lists(failures, max_size=30))
def test_without_end_only_with_progress(every: list[Ended]) -> None:
    """Whatever happens, attempts go on at most MOST_WITHOUT_PROGRESS times for each newer checkpoint."""
    before: list[Ended] = []
    for one in every:
        if not decide(one, before).again:
            break
        before.append(one)
    newer = len({one.step for one in before} - {-1})
    assert len(before) < MOST_WITHOUT_PROGRESS * (newer + 1)
