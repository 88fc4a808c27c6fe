"""Odds-ratio preference optimisation (arXiv 2403.07691).

    loss = NLL(chosen) - beta * log sigmoid(logodds(chosen) - logodds(rejected))

As in TRL's experimental trainer, against which the tests compare, the NLL is over the tokens of prompt and chosen
answer, and the log-odds use the mean log-probability of the answer's tokens. Unlike there, both means are taken over
the global step (`pairs`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from transformers import TrainingArguments

from ..data.encoding import encoders
from ..model.adapter import add
from .pairs import logps as pair_logps
from .pairs.collate import Batch, collator
from .pairs.trainer import PairTrainer


@dataclass
class ORPOConfig(TrainingArguments):
    """TrainingArguments and what ORPO adds, under TRL's names."""

    beta: float = field(default=0.1, metadata={"help": "Weight of the odds-ratio term."})
    max_length: int | None = field(default=1024, metadata={"help": "Tokens of prompt and answer; answers are cut."})
    max_prompt_length: int | None = field(default=512, metadata={"help": "Tokens of the prompt; its end is kept."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that tokenise; null: one."})
    disable_dropout: bool = field(default=True, metadata={"help": "Set the model's own dropout to 0."})
    model_init_kwargs: dict[str, Any] | None = field(default=None, metadata={"help": "For `from_pretrained`."})


HEAD = "lm"
Config = ORPOConfig
encoder = encoders.orpo
SIDES = ("chosen", "rejected")


@dataclass
class PairTerms:
    """What the loss and every metric of a pair are made of; each of shape (B,), in nats.

    nll_sum: over the tokens of prompt and chosen answer. logps_...: mean log-probability of the answer's tokens.
    """

    nll_sum: torch.Tensor
    logps_chosen: torch.Tensor
    logps_rejected: torch.Tensor

    def log_odds(self) -> torch.Tensor:
        """The chosen answer's log-odds minus the rejected one's, (B,)."""
        return (self.logps_chosen - _log1mexp(self.logps_chosen)) - (
            self.logps_rejected - _log1mexp(self.logps_rejected)
        )


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x < 0, without cancellation."""
    x = x.clamp(max=-1e-7)  # an answer of probability 1 would have infinite odds
    # Each branch gets only values that it can differentiate: in backward, where() lets the unused branch's NaN through.
    near, far = x.clamp(min=-math.log(2)), x.clamp(max=-math.log(2))
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))


METRICS = (
    "log_odds_ratio",
    "log_odds_chosen",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)


class ORPOTrainer(PairTrainer):
    """PairTrainer with ORPO's loss."""

    columns = tuple(f"{side}_{column}" for side in SIDES for column in ("input_ids", "prompt_length", "learnt"))
    metrics = ("nll_loss", *METRICS)

    def measure(self, model: Any, inputs: Batch) -> torch.Tensor:
        """The NLL's sum and the METRICS (named as in TRL) of each pair, (B, M)."""
        terms, beta = _terms(model, inputs), self.args.beta
        chosen, rejected, log_odds = terms.logps_chosen, terms.logps_rejected, terms.log_odds()
        columns = [
            terms.nll_sum,
            F.logsigmoid(log_odds),
            log_odds,
            beta * chosen,
            beta * rejected,
            beta * (chosen - rejected),
            (chosen > rejected).float(),
            chosen,
            rejected,
        ]
        return torch.stack(columns, dim=1)

    def counts(self, inputs: Batch) -> torch.Tensor:
        """1 for each pair; for the NLL the number of tokens of prompt and chosen answer."""
        counts = super().counts(inputs)
        counts[:, 0] = _chosen(inputs["attention_mask"])[:, 1:].sum(1)
        return counts

    def loss_of(self, means: dict[str, Any]) -> Any:
        """The module's formula."""
        return means["nll_loss"] - self.args.beta * means["log_odds_ratio"]


def _terms(model: Any, inputs: Batch) -> PairTerms:
    asked = inputs["answer_mask"].clone()
    asked[: len(asked) // 2] |= _chosen(inputs["attention_mask"])
    logps = pair_logps.token_logps(model, inputs, asked)
    answer = inputs["answer_mask"][:, 1:]
    means = (logps * answer).sum(1) / answer.sum(1)
    nll = -(_chosen(logps) * _chosen(inputs["attention_mask"])[:, 1:]).sum(1)
    return PairTerms(nll, *means.chunk(2))


def _chosen(batch: torch.Tensor) -> torch.Tensor:
    return batch.chunk(2)[0]


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    pair_logps.prepare(model)
    return ORPOTrainer(
        model=add(model, adapter, args) if adapter else model,
        args=args,
        data_collator=collator(SIDES, tokenizer.pad_token_id),
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
    )
