"""The log-probability of each next token: from whole logits where they are small, else from the head in tiles.

TRL's fused head computes the head in tiles, and once more in the backward. That saves the memory of the logits and
costs a third of the head's time, so it is used only where they are large. Either way the tokens whose log-probability
nobody asks for, those of the prompt, are left out.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from .adapter import base_of
from .logits import are_whole

NOT_ASKED = -100


class Distribution(NamedTuple):
    """Of the next token.

    logits, probabilities: (N, C, V). total: (N, C), log of the sum of exp(logits). tokens: (N, C), those that follow.
    """

    logits: Tensor
    probabilities: Tensor
    total: Tensor
    tokens: Tensor


#: What TRL's trainers measure of it, each (N, C). (einsum needs no memory of the logits' size, and vecdot does.)
MEASURES: dict[str, Callable[[Distribution], Tensor]] = {
    "entropy": lambda of: of.total - torch.einsum("ncv,ncv->nc", of.probabilities, of.logits),
    "is_top1": lambda of: of.logits.argmax(-1) == of.tokens,
    "mean_logits": lambda of: of.logits.mean(-1),
    "log_sum_sq_probs": lambda of: torch.linalg.vecdot(of.probabilities, of.probabilities).log(),
}


class LogProbs(torch.autograd.Function):
    """Log-probabilities of tokens, with one more tensor of the logits' size; autograd's way has four.

    The backward makes the gradient in the place of the probabilities, so it can be done once.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logits: (N, C, V), fp32. tokens: (N, C). Returns (N, C), and probabilities and total of a Distribution."""
        probabilities = logits.softmax(-1)
        # By the most probable token, whose probability is no less than 1 / V: its logarithm is exact.
        total = logits.amax(-1) - probabilities.amax(-1).log()
        ctx.save_for_backward(probabilities, tokens)
        ctx.mark_non_differentiable(probabilities, total)
        return logits.gather(-1, tokens[..., None]).squeeze(-1) - total, probabilities, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        """d log p(token) / d logit = [it is the token's] - p."""
        probabilities, tokens = ctx.saved_tensors
        gradient = gradient[..., None]
        return probabilities.mul_(-gradient).scatter_add_(-1, tokens[..., None], gradient), None


class NextTokenHead:
    """A causal language model's forward, where it is called as TRL's trainers do, with `fused_lm_head=True`.

    measuring: whether a caller wants what is in `measured`; else it is zero where the logits are whole. It costs as
    much as the loss.
    """

    def __init__(self, model: Any, measured: tuple[str, ...]) -> None:
        """model: with TRL's fused head."""
        self._model = model
        self._forward = model.forward
        self._measured = measured
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.measuring = True

    def __call__(
        self, *args: Any, fused_lm_head: bool = False, labels: Any = None, shift_labels: Any = None, **kwargs: Any
    ) -> Any:
        """As TRL's: labels (N, T) of the tokens themselves, or shift_labels (N, T) of those that follow; -100: none.

        Returns a FusedCausalLMOutput without `loss`, whose fields have shape (N, T - 1), with shift_labels (N, T).
        """
        given = {name: it for name, it in (("labels", labels), ("shift_labels", shift_labels)) if it is not None}
        if not fused_lm_head:
            return self._forward(*args, **given, **kwargs)
        text = self._model.config.get_text_config()
        tokens = labels[:, 1:] if shift_labels is None else shift_labels
        columns = self.columns(tokens)
        whole = self._selects and are_whole(len(tokens) * len(columns), text.vocab_size)
        routed = kwargs.get("output_router_logits") or getattr(text, "output_router_logits", False)
        if not whole or routed or len(columns) == 0:  # (TRL's adds the experts' own loss)
            return self._forward(*args, **given, fused_lm_head=True, **kwargs)
        kwargs = {name: it for name, it in kwargs.items() if name != "num_items_in_batch"} | {"use_cache": False}
        logits = self._forward(*args, logits_to_keep=columns, **kwargs).logits.float()
        return self._output(logits, tokens.to(logits.device), columns.to(logits.device))

    def columns(self, tokens: Tensor) -> Tensor:
        """The C columns of tokens (N, T) in which one is asked for."""
        return (tokens != NOT_ASKED).any(0).nonzero().flatten()

    def _output(self, logits: Tensor, tokens: Tensor, columns: Tensor) -> FusedCausalLMOutput:
        """logits: (N, C, V), of the columns (C,) of tokens (N, T)."""
        asked = tokens != NOT_ASKED
        kept, unasked = tokens[:, columns].clamp(min=0), ~asked[:, columns]

        def placed(values: Tensor) -> Tensor:
            values = values.masked_fill(unasked, 0)
            return values.new_zeros(tokens.shape).index_copy(1, columns, values)

        log_probs, probabilities, total = LogProbs.apply(logits, kept)  # type: ignore[no-untyped-call]
        found = FusedCausalLMOutput(log_probs=placed(log_probs), label_mask=asked)
        with torch.no_grad():
            distribution = Distribution(logits, probabilities, total, kept)
            for name in self._measured:
                values = MEASURES[name](distribution) if self.measuring else torch.zeros_like(kept)
                found[name] = placed(values)
        return found


def install(model: Any, *measured: str) -> NextTokenHead:
    """Put this head before TRL's, which the model must have (`add_fused_lm_head`), also below an adapter.

    measured: what is wanted besides `log_probs`, as TRL's was told.
    """
    base = base_of(model)
    head = NextTokenHead(base, measured)
    base.forward = functools.wraps(base.forward)(functools.partial(head))  # `generate` reads its signature
    return head
