"""The losses of safe_dpo as pure functions, one value per pair: each returns (B,).

h (B,) is always the pair's difference of log-ratios, in nats, summed over the response's tokens:
    h = [log pi(y_w|x) - log pi_ref(y_w|x)] - [log pi(y_l|x) - log pi_ref(y_l|x)]
with y_w the preferred response and y_l the other. `margin` (B,) is a reward model's score of y_w minus that of y_l.
"""

from __future__ import annotations

import math
import sys

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor


def dpo(h: Tensor, *, beta: float) -> Tensor:
    """-log sigmoid(beta h) (arXiv 2305.18290)."""
    return -F.logsigmoid(beta * h)


def scaled_beta(margin: Tensor, *, beta: float, w: float, k: float) -> Tensor:
    """beta (1 + w (1 - exp(-k margin))), clamped to [beta, (1 + w) beta] (arXiv 2502.10391, dynamic reward scaling)."""
    # Clamping the margin at 0 clamps the value at beta, and exp cannot overflow.
    return beta * (1 + w * -torch.expm1(-k * margin.clamp(min=0)))


def mm_dpo(h: Tensor, margin: Tensor, *, beta: float, w: float, k: float) -> Tensor:
    """-log sigmoid(scaled_beta(margin) h) (arXiv 2502.10391): pairs with a larger margin weigh more."""
    return -F.logsigmoid(scaled_beta(margin, beta=beta, w=w, k=k) * h)


def modpo(h: Tensor, weighted_margin: Tensor, *, beta: float, weight: float) -> Tensor:
    """-log sigmoid((beta h - weighted_margin) / weight) (arXiv 2310.03708).

    weight: of the preference by which the pair is ordered, in (0, 1]. weighted_margin (B,): the sum of
    weight_k * margin_k over the other preferences' reward models.
    """
    return -F.logsigmoid((beta * h - weighted_margin) / weight)


def safedpo(h: Tensor, safe_w: Tensor, safe_l: Tensor, *, beta: float, delta: float) -> Tensor:
    """-log sigmoid(beta h' - delta [the less preferred response is unsafe]) (arXiv 2505.20065).

    safe_w, safe_l (B,): bool. h' is h where y_w is safe and -h (the pair is swapped) where only y_l is. A pair of two
    unsafe responses is dropped: its loss is 0, without gradient, and it must not count in a mean.
    """
    h = torch.where(safe_w, h, -h)
    loss = -F.logsigmoid(beta * h - delta * (safe_w ^ safe_l).to(h.dtype))
    return torch.where(safe_w | safe_l, loss, torch.zeros_like(loss))


def bfpo(h: Tensor, safe_w: Tensor, safe_l: Tensor, *, beta: float, b1: float, alpha: float) -> Tensor:
    """(h - (b3 (b1 s_w - s_l) - alpha) / beta)^2 with b3 = 1 / (b1 - 1), s = 1 where safe, else 0 (arXiv 2408.15313).

    safe_w, safe_l (B,): bool.
    """
    b3 = 1 / (b1 - 1)
    target = (b3 * (b1 * safe_w.to(h.dtype) - safe_l.to(h.dtype)) - alpha) / beta
    return (h - target) ** 2


def lagrangian(helpful: Tensor, safe: Tensor, *, multiplier: float) -> Tensor:
    """(L_H + lambda L_S) / (1 + lambda), as Safe RLHF (arXiv 2310.12773) combines its two objectives.

    helpful: the loss L_H of pairs ordered by helpfulness. safe: L_S of pairs ordered by safety. Both are `mm_dpo` with
    |margin|. multiplier: lambda.
    """
    return (helpful + multiplier * safe) / (1 + multiplier)


def updated_multiplier(multiplier: float, cost: float, *, lr: float, budget: float, maximum: float) -> float:
    """lambda after one step: ln lambda += lr lambda (cost - budget), at most `maximum` (arXiv 2310.12773).

    cost: the expected cost, the negative of the harmless score.
    """
    log = min(math.log(multiplier) + lr * multiplier * (cost - budget), math.log(maximum))
    return max(math.exp(log), sys.float_info.min)  # never 0, as ln 0 is not finite


def expected_cost(h: Tensor, harmless_w: Tensor, harmless_l: Tensor) -> Tensor:
    """The policy's expected cost over the pair's two responses, (B,): minus the harmless score, averaged by `expected`.

    A plain mean over the two responses would not depend on the policy, so lambda could not react to what it learns.
    """
    return -expected(h, harmless_w, harmless_l)


def expected(h: Tensor, of_w: Tensor, of_l: Tensor) -> Tensor:
    """The policy's expectation (B,) of a quantity that is known for both responses of a pair.

    Their weights are sigmoid(h) and sigmoid(-h): self-normalised importance sampling with the ratios pi / pi_ref. No
    gradient flows through the weights.
    """
    share = torch.sigmoid(h.detach())
    return share * of_w + (1 - share) * of_l


def kl(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """KL(pi || pi_ref) of each response, (N,) in nats, estimated on its tokens: the sum of (log pi - log pi_ref)^2 / 2.

    logps, reference_logps: (N, T), zero outside the response. This is Schulman's k2 (joschu.net/blog/kl-approx): never
    negative, and averaged over responses as the policy writes them (`expected`), its gradient is that of the KL. In a
    plain mean over the data it is not: responses that the policy no longer gives would weigh most, without bound.
    """
    return ((logps - reference_logps) ** 2).sum(1) / 2
