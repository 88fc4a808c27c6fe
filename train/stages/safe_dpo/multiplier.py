"""The Lagrange multiplier of safe_dpo: one number, the same on every rank, saved with the checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from .objectives import updated_multiplier

_KEY = "lambda"  # in trainer_state.json, beside the states of transformers' own callbacks


class Multiplier(TrainerCallback):
    """lambda, updated after each optimizer step from the exponential moving average of the cost.

    step_cost: returns the step's expected cost, already the mean over all ranks, so that lambda needs no further
    synchronisation. The moving average starts with the first step's cost.
    """

    def __init__(self, args: Any, step_cost: Callable[[], float]) -> None:
        self.value: float = args.lambda_init
        self.cost: float | None = None
        self._step_cost = step_cost

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue with the values of the checkpoint that the run resumes from."""
        del args, control, kwargs
        self.restore(state)

    def restore(self, state: Any) -> None:
        """Take lambda and cost from a trainer's state, if it holds them."""
        if saved := state.stateful_callbacks.get(_KEY):
            self.value, self.cost = saved["value"], saved["cost"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update lambda, and put it into the trainer's state, which the next checkpoint saves. A collective."""
        del control, kwargs
        cost = self._step_cost()
        self.cost = cost if self.cost is None else args.lambda_ema * self.cost + (1 - args.lambda_ema) * cost
        self.value = updated_multiplier(
            self.value, self.cost, lr=args.lambda_lr, budget=args.cost_budget, maximum=args.lambda_max
        )
        state.stateful_callbacks[_KEY] = {"value": self.value, "cost": self.cost}
