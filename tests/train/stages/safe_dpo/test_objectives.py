"""Each objective against scalar arithmetic of its formula in float64, and what each is for."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import torch

from alignlaunch.train.stages.safe_dpo import objectives

RANDOM = random.Random(0)  # noqa: S311 - test data
H = [RANDOM.gauss(0, 8) for _ in range(64)] + [0.0]
MARGIN = [RANDOM.gauss(0, 3) for _ in H]
OTHER = [RANDOM.gauss(0, 3) for _ in H]
SAFE_W = [RANDOM.random() < 0.5 for _ in H]
SAFE_L = [RANDOM.random() < 0.5 for _ in H]


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flags(values: list[bool]) -> torch.Tensor:
    return torch.tensor(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def minus_log_sigmoid(x: float) -> float:
    return math.log1p(math.exp(-x)) if x > 0 else -x + math.log1p(math.exp(x))


def dynamic_beta(margin: float, beta: float, w: float, k: float) -> float:
    return min(max(beta * (1 + w * (1 - math.exp(-k * margin))), beta), (1 + w) * beta)


def safedpo(h: float, w: bool, other: bool) -> float:
    if not w and not other:
        return 0.0
    if not w:
        h, w, other = -h, other, w
    return minus_log_sigmoid(0.3 * h - (float(not other) - float(not w)) * 10)


def bfpo(h: float, w: bool, other: bool) -> float:
    b3 = 1 / (3 - 1)
    return float((h - 1 / 0.3 * (3 * b3 * w - b3 * other - 0.5)) ** 2)


def reference(name: str) -> tuple[torch.Tensor, list[float]]:
    """Ours on all pairs, and the scalar formula pair by pair."""
    h, margin, other = column(H), column(MARGIN), column(OTHER)
    safe = flags(SAFE_W), flags(SAFE_L)
    rows = list(zip(H, MARGIN, OTHER, SAFE_W, SAFE_L, strict=True))
    cases: dict[str, Callable[[], tuple[torch.Tensor, list[float]]]] = {
        "dpo": lambda: (objectives.dpo(h, beta=0.3), [minus_log_sigmoid(0.3 * x) for x in H]),
        "mm_dpo": lambda: (
            objectives.mm_dpo(h, margin, beta=0.3, w=0.5, k=0.7),
            [minus_log_sigmoid(dynamic_beta(m, 0.3, 0.5, 0.7) * x) for x, m, *_ in rows],
        ),
        "modpo": lambda: (
            objectives.modpo(h, 0.4 * margin, beta=0.3, weight=0.6),
            [minus_log_sigmoid(1 / 0.6 * (0.3 * x - 0.4 * m)) for x, m, *_ in rows],
        ),
        "safedpo": lambda: (
            objectives.safedpo(h, *safe, beta=0.3, delta=10),
            [safedpo(x, sw, sl) for x, _, _, sw, sl in rows],
        ),
        "bfpo": lambda: (
            objectives.bfpo(h, *safe, beta=0.3, b1=3, alpha=0.5),
            [bfpo(x, sw, sl) for x, _, _, sw, sl in rows],
        ),
        "lagrangian": lambda: (
            objectives.lagrangian(
                objectives.mm_dpo(h, margin.abs(), beta=0.3, w=0.5, k=0.7),
                objectives.mm_dpo(-h, other.abs(), beta=0.3, w=0.5, k=0.7),
                multiplier=2.5,
            ),
            [
                (
                    minus_log_sigmoid(dynamic_beta(abs(m), 0.3, 0.5, 0.7) * x)
                    + 2.5 * minus_log_sigmoid(dynamic_beta(abs(o), 0.3, 0.5, 0.7) * -x)
                )
                / 3.5
                for x, m, o, *_ in rows
            ],
        ),
        "expected_cost": lambda: (
            objectives.expected_cost(h, margin, other),
            [-sigmoid(x) * m - sigmoid(-x) * o for x, m, o, *_ in rows],
        ),
    }
    return cases[name]()


@pytest.mark.parametrize("name", ["dpo", "mm_dpo", "modpo", "safedpo", "bfpo", "lagrangian", "expected_cost"])
def test_equals_the_formula_pair_by_pair(name: str) -> None:
    found, expected = reference(name)
    assert found.tolist() == pytest.approx(expected, abs=1e-6, rel=1e-12)


def test_mm_dpo_without_scaling_is_dpo_and_its_beta_stays_in_bounds() -> None:
    h = column(H)
    assert torch.equal(objectives.mm_dpo(h, column(MARGIN), beta=0.1, w=0, k=0.5), objectives.dpo(h, beta=0.1))
    beta = objectives.scaled_beta(column([-1e6, -1, 0, 0.5, 1, 1e6]), beta=0.1, w=0.5, k=0.5)
    assert beta[:3].tolist() == [0.1] * 3
    assert beta[-1].item() == pytest.approx(0.15)
    assert beta[2:].diff().min() > 0


def test_modpo_asks_for_more_where_the_other_reward_would_fall() -> None:
    h = column([1.0, 1.0, 1.0])
    loss = objectives.modpo(h, column([-1, 0, 1]), beta=0.1, weight=0.5)
    assert loss.diff().min() > 0
    assert objectives.modpo(h, column([0, 0, 0]), beta=0.1, weight=1)[0] == objectives.dpo(h, beta=0.1)[0]


def test_safedpo_keeps_swaps_and_drops() -> None:
    h = column([3.0, 3.0, 3.0, 3.0]).requires_grad_()
    loss = objectives.safedpo(h, flags([True, True, False, False]), flags([True, False, True, False]), beta=1, delta=10)
    torch.autograd.backward(loss.sum())
    assert h.grad is not None
    pull = torch.sign(-h.grad).tolist()
    assert pull == [1, 1, -1, 0]  # kept, kept, swapped, dropped
    assert loss[0] == objectives.dpo(column([3.0]), beta=1)[0]
    assert loss[1] == objectives.dpo(column([3.0 - 10]), beta=1)[0]
    assert loss[2] == objectives.dpo(column([-3.0 - 10]), beta=1)[0]
    assert loss[3] == 0


def test_bfpo_is_least_at_the_paper_s_four_targets() -> None:
    # Both safe, only y_w, only y_l, none: with b1 = 3 and alpha = 1/2 the targets are symmetric.
    beta, targets = 0.1, column([0.5, 1.0, -1.0, -0.5])
    safe = flags([True, True, False, False]), flags([True, False, True, False])
    assert objectives.bfpo(targets / beta, *safe, beta=beta, b1=3, alpha=0.5).max() < 1e-20
    for off in (-0.1, 0.1):
        assert objectives.bfpo(targets / beta + off, *safe, beta=beta, b1=3, alpha=0.5).min() > 1e-3


def test_lagrangian_goes_from_helpfulness_to_safety() -> None:
    helpful, safe = column([1.0]), column([5.0])
    assert objectives.lagrangian(helpful, safe, multiplier=0) == 1
    assert objectives.lagrangian(helpful, safe, multiplier=1) == 3
    assert objectives.lagrangian(helpful, safe, multiplier=1e12).item() == pytest.approx(5)


def test_the_multiplier_rises_above_the_budget_falls_below_and_is_bounded() -> None:
    def update(multiplier: float, cost: float) -> float:
        return objectives.updated_multiplier(multiplier, cost, lr=0.01, budget=0.5, maximum=10)

    assert update(2, 1.5) == pytest.approx(2 * math.exp(0.01 * 2 * 1.0), rel=1e-12)
    assert update(2, 0.5) == pytest.approx(2, rel=1e-12)
    assert 0 < update(2, -3) < 2
    assert update(10, 1e9) == pytest.approx(10, rel=1e-12)
    assert 0 < update(update(10, -1e9), -1e9) < 1e-300


def test_a_policy_that_moves_to_the_safe_response_has_a_lower_cost() -> None:
    cost = objectives.expected_cost(column([-20, 0, 20]), column([1.0] * 3), column([-2.0] * 3))
    assert cost.tolist() == pytest.approx([2, 0.5, -1], abs=1e-6)


def test_kl_is_zero_at_the_reference_alone_and_its_gradient_is_the_kl_s() -> None:
    logits = column([0.3, -1.0, 0.7, 0.1]).requires_grad_()
    reference = column([0.0, 0.2, -0.4, 0.5]).log_softmax(0)
    policy = logits.log_softmax(0)
    per_token = objectives.kl(policy[:, None], reference[:, None])  # each token of the vocabulary as a response
    assert (per_token > 0).all()
    assert objectives.kl(policy[:, None], policy[:, None]).max() == 0
    expected = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)[0]
    found = torch.autograd.grad((policy.exp().detach() * per_token).sum(), logits)[0]
    assert found.allclose(expected, atol=1e-12)


@pytest.mark.parametrize("preference", [-30.0, -1.0, 0.0, 2.0, 30.0])
def test_the_kl_of_a_pair_has_the_gradient_of_the_policy_s_kl(preference: float) -> None:
    """Two responses and no others: then it is exact, also once the policy no longer says one of them."""
    logits = column([preference, 0.0]).requires_grad_()
    policy, reference = logits.log_softmax(0), column([0.5, 0.5]).log()
    h = (policy - reference)[:1] - (policy - reference)[1:]
    kl_w, kl_l = objectives.kl(policy[:, None], reference[:, None]).chunk(2)
    expected = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)[0]
    found = torch.autograd.grad(objectives.expected(h, kl_w, kl_l).sum(), logits)[0]
    assert found.allclose(expected, atol=1e-10)
