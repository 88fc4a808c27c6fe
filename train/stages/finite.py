"""A loss or gradient that is NaN or infinite ends the run at that step, before spoilt weights are saved."""

from __future__ import annotations

import math
import os
import platform
from typing import Any

from ..errors import UserError


class FiniteTrainer:
    """Mixin for a Trainer. Transformers would log the mean of the earlier losses in place of a NaN, and train on."""

    args: Any
    state: Any

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train on a micro-batch. Raises UserError if its loss is not finite."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self._require_finite("loss", float(loss))
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient norm, just before the optimizer's step. Raises UserError if it is not finite."""
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[misc]
        # Not with fp16: its dynamic loss scaling skips steps whose gradient overflowed, which is normal.
        if norm is not None and not self.args.fp16:
            # DeepSpeed reports a norm that is not finite as -1.
            self._require_finite("gradient", math.nan if float(norm) < 0 else float(norm))
        return norm

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"step {self.state.global_step + 1}: the {what} is {value} (rank {os.environ.get('RANK', '0')} on "
                f"{platform.node()}); the weights of this step are not saved. Lower the learning rate or warm up, use "
                "bf16 in place of fp16, look at the data of that step; then resume from the last checkpoint."
            )
