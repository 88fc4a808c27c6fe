"""Odds-ratio preference optimisation (arXiv 2403.07691).

    loss = NLL(chosen) - beta * log sigmoid(logodds(chosen) - logodds(rejected))

As in TRL's experimental trainer, which is the oracle of the tests, the NLL counts the tokens of prompt and chosen
answer, and the log-odds come from the mean log-probability of the answer's tokens. Unlike there, both means are taken
over the global step (all processes, all accumulated micro-batches), so that the split into processes changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
import transformers
from transformers import TrainingArguments

from alignlaunch.train.adapter import add
from alignlaunch.train.data import Encoder
from alignlaunch.train.encoding import Encoded, Row, Tokens, encode
from alignlaunch.train.formats import Record, preference
from alignlaunch.train.reporting import MeasuredTrainer


@dataclass
class ORPOConfig(TrainingArguments):
    """TrainingArguments and what ORPO adds, under TRL's names."""

    beta: float = field(default=0.1, metadata={"help": "Weight of the odds-ratio term."})
    max_length: int | None = field(default=1024, metadata={"help": "Tokens of prompt and answer; answers are cut."})
    max_prompt_length: int | None = field(default=512, metadata={"help": "Tokens of the prompt; its end is kept."})
    disable_dropout: bool = field(default=True, metadata={"help": "Set the model's own dropout to 0."})
    model_init_kwargs: dict[str, Any] | None = field(default=None, metadata={"help": "For `from_pretrained`."})


HEAD = "lm"
Config = ORPOConfig


def encoder(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise both answers after their prompt; the prompt loses its beginning, an answer its end."""

    def encode_record(record: Record) -> Encoded:
        found = preference(record)
        sides = {}
        cut = False
        for side, answer in (("chosen", found.chosen), ("rejected", found.rejected)):
            # Only the answer after the last question counts; a template that rewrites earlier turns has it last.
            tokens = encode(tokenizer, found.prompt, answer)[-1]
            sides[side], shortened = _shorten(tokens, args.max_prompt_length, args.max_length)
            cut |= shortened
        if not all(any(tokens.learnt[1:]) for tokens in sides.values()):  # the first token is never predicted
            return Encoded([], truncated=cut)
        row: Row = {}
        for side, tokens in sides.items():
            row |= {f"{side}_input_ids": tokens.ids, f"{side}_prompt_length": tokens.learnt.index(True)}
        return Encoded([row], truncated=cut)

    return encode_record


def _shorten(tokens: Tokens, max_prompt_length: int | None, max_length: int | None) -> tuple[Tokens, bool]:
    start = tokens.learnt.index(True) if any(tokens.learnt) else len(tokens.ids)
    skip = max(0, start - max_prompt_length) if max_prompt_length is not None else 0
    ids, learnt = tokens.ids[skip:][:max_length], tokens.learnt[skip:][:max_length]
    return Tokens(ids, learnt), len(ids) < len(tokens.ids)


def collator(pad_token_id: int) -> Callable[[list[Row]], dict[str, torch.Tensor]]:
    """Batch the pairs for one forward: all chosen sequences, then all rejected ones."""

    def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
        sides = [(row, side) for side in ("chosen", "rejected") for row in rows]
        longest = max(len(row[f"{side}_input_ids"]) for row, side in sides)
        input_ids = torch.full((len(sides), longest), pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        answer_mask = torch.zeros_like(input_ids)
        for i, (row, side) in enumerate(sides):
            ids = row[f"{side}_input_ids"]
            input_ids[i, : len(ids)] = torch.tensor(ids)
            attention_mask[i, : len(ids)] = 1
            answer_mask[i, row[f"{side}_prompt_length"] : len(ids)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask, "answer_mask": answer_mask}

    return collate


@dataclass
class PairTerms:
    """One value a pair; the loss and every metric are sums of these divided by global counts."""

    nll_sum: torch.Tensor
    logps_chosen: torch.Tensor
    logps_rejected: torch.Tensor

    def log_odds(self) -> torch.Tensor:
        """The chosen answer's log-odds less the rejected one's."""
        return (self.logps_chosen - _log1mexp(self.logps_chosen)) - (
            self.logps_rejected - _log1mexp(self.logps_rejected)
        )


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x < 0, without cancellation."""
    x = x.clamp(max=-1e-7)  # an answer that is certain would have infinite odds
    # Each branch gets values it can differentiate: where() would let the other's NaN through backward.
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


def pair_metrics(terms: PairTerms, beta: float) -> torch.Tensor:
    """The METRICS of each pair, one column each, under TRL's names."""
    chosen, rejected, log_odds = terms.logps_chosen.detach(), terms.logps_rejected.detach(), terms.log_odds().detach()
    columns = [
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


class ORPOTrainer(MeasuredTrainer, transformers.Trainer):
    """The Trainer with ORPO's loss."""

    # The loss below is already divided by the totals of all accumulated micro-batches.
    loss_is_scaled_for_ga = True

    args: Any  # an ORPOConfig; the base class declares a TrainingArguments
    _signature_columns: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, compute_metrics=self._evaluation_metrics)
        self._sums: torch.Tensor | None = None
        self._steps = 0

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [f"{s}_{c}" for s in ("chosen", "rejected") for c in ("input_ids", "prompt_length")]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The micro-batches of one step, and over all processes: how many NLL tokens and how many pairs they hold."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._steps += 1
        totals = torch.zeros(2, dtype=torch.long, device=device)
        for batch in batches:
            totals[0] += _chosen(batch["attention_mask"])[:, 1:].sum()
            totals[1] += len(batch["input_ids"]) // 2
        return batches, self.accelerator.reduce(totals, "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This process's share of the step's loss, times the number of processes, whose mean is taken afterwards."""
        if num_items_in_batch is None or return_outputs:
            raise NotImplementedError("ORPO's loss needs the step's totals and gives no outputs; see prediction_step")
        terms = self._forward(model, inputs)
        tokens, pairs = num_items_in_batch
        nll = terms.nll_sum.sum() / tokens
        ratio = F.logsigmoid(terms.log_odds()).sum() / pairs
        shares = torch.cat([nll.detach()[None], pair_metrics(terms, self.args.beta).sum(0) / pairs])
        self._sums = shares if self._sums is None else self._sums + shares
        return (nll - self.args.beta * ratio) * self.accelerator.num_processes

    def _forward(self, model: Any, inputs: dict[str, Any]) -> PairTerms:
        """One forward for chosen and rejected together (two would reduce a parameter twice, DeepSpeed#988)."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        targets = inputs["input_ids"][:, 1:]
        logits = outputs.logits[:, :-1].float()
        logps = -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        answer = inputs["answer_mask"][:, 1:]
        means = (logps * answer).sum(1) / answer.sum(1)
        nll = -(_chosen(logps) * _chosen(inputs["attention_mask"])[:, 1:]).sum(1)
        return PairTerms(nll, *means.chunk(2))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last record; one small reduction over the processes, and only here."""
        if "loss" in logs and self._sums is not None:
            values = (self.accelerator.reduce(self._sums, "sum") / self._steps).tolist()
            logs |= dict(zip(("nll_loss", *METRICS), values, strict=True))
            self._sums, self._steps = None, 0
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Values of each pair instead of a loss of the batch, so that the evaluation's means are exact."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            terms = self._forward(model, inputs)
        values = torch.cat([terms.nll_sum[:, None], pair_metrics(terms, self.args.beta)], dim=1)
        tokens = _chosen(inputs["attention_mask"])[:, 1:].sum(1, keepdim=True)
        return None, values, tokens

    def _evaluation_metrics(self, prediction: Any) -> dict[str, float]:
        nll_sum, *columns = prediction.predictions.T
        means = {name: float(column.mean()) for name, column in zip(METRICS, columns, strict=True)}
        nll = float(nll_sum.sum() / prediction.label_ids.sum())
        return {"loss": nll - self.args.beta * means["log_odds_ratio"], "nll_loss": nll} | means


def _chosen(batch: torch.Tensor) -> torch.Tensor:
    return batch.chunk(2)[0]


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    return ORPOTrainer(
        model=add(model, adapter, args) if adapter else model,
        args=args,
        data_collator=collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
    )
