"""Preference optimisation with safety: six objectives over pairs that are ordered by helpfulness and by safety.

`objectives` holds the formulas. `lagrangian` is the loss of the Safe-MM-DPO recipe:
    loss = (L_H + lambda L_S) / (1 + lambda) + kl_coef KL
L_H orders each pair by helpfulness, L_S by safety, each with a beta scaled by its own reward model's margin; lambda
follows the expected cost (`multiplier`). The reference's log-probabilities and the rewards, which no training step
changes, come from `scoring`, precomputed or live.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ... import trained_folder
from ...config import REWARD_MODELS, REWARDS
from ...data.encoding import encoders, vision
from ...data.encoding.pair_rows import IMAGE_COLUMNS, SIDES
from ...data.encoding.tokens import Row, tokenizer_of
from ...errors import UserError
from ...model.adapter import add
from ..pairs import images, score_columns, start_model
from ..pairs.collate import Batch, Collate, collator
from ..pairs.logps import prepare, token_logps
from ..pairs.score_columns import Scorer
from ..pairs.trainer import PairTrainer
from . import evaluation, objectives, scoring
from .config import Objective, SafeDPOConfig
from .evaluation import SafetyEval
from .multiplier import Multiplier

HEAD = "lm"
Config = SafeDPOConfig
encoder, image_encoder = encoders.safe_dpo, encoders.safe_dpo_images
LABELS = ("better", "safer", "a_safe", "b_safe")


def with_labels(collate_pairs: Collate) -> Collate:
    """A collator that adds the labels and any precomputed scores to the batches of `collate_pairs`."""

    def collate(rows: list[Row]) -> Batch:
        batch = collate_pairs(rows)
        batch |= {name: torch.tensor([row[name] for row in rows]) for name in LABELS}
        return batch | scoring.collate(rows, SIDES, batch["answer_mask"])

    return collate


class SafeDPOTrainer(PairTrainer):
    """PairTrainer with the losses of `objectives`."""

    unrounded = scoring.NAMES
    columns = (
        *(
            f"{side}_{name}"
            for side in SIDES
            for name in ("input_ids", "prompt_length", "learnt", *IMAGE_COLUMNS, *scoring.NAMES)
        ),
        *("images", *LABELS),
    )

    def __init__(self, live: dict[str, Scorer], after_training: SafetyEval | None, **kwargs: Any) -> None:
        """live: scorers that run on each batch. after_training: the evaluation by generation, if one is asked for.

        If neither `live` nor the rows have `reference`, it is the policy with its adapter switched off.
        """
        super().__init__(**kwargs)
        self._live = live
        self._safety_eval = after_training
        self.multiplier: Multiplier | None = None
        losses: tuple[str, ...] = ("pair_loss",)
        if self.args.objective == "lagrangian":
            losses = ("helpful_loss", "safe_loss", "cost")
            self.multiplier = Multiplier(self.args, step_cost=lambda: self.step_mean("cost"))
            self.add_callback(self.multiplier)
        safety = ("safety/margins", "safety/accuracies")
        self.metrics = (*losses, "kl", "rewards/margins", "rewards/accuracies", *safety)

    def measure(self, model: Any, inputs: Batch) -> torch.Tensor:
        """The objective's losses, the KL, and for each order TRL's reward margin (beta h) and accuracy: (B, M)."""
        inputs = self._scored(model, inputs)
        logps = token_logps(model, inputs, inputs["answer_mask"])
        ratio_a, ratio_b = (logps - inputs["reference"]).sum(1).chunk(2)
        h = ratio_a - ratio_b
        kl_a, kl_b = objectives.kl(logps, inputs["reference"]).chunk(2)
        better, safer = inputs["better"], inputs["safer"]
        columns = [*self._losses(h, inputs), objectives.expected(h, kl_a, kl_b)]
        for order in (better, safer):
            columns += [self.args.beta * order * h, (order * h > 0).float()]
        return torch.stack(columns, dim=1)

    def counts(self, inputs: Batch) -> torch.Tensor:
        """1 for each pair; 0 in the metrics of an order (helpfulness, safety) by which the pair was not judged."""
        counts = super().counts(inputs)
        for i, name in enumerate(self.metrics):
            if name in ("helpful_loss", "rewards/margins", "rewards/accuracies"):
                counts[:, i] = inputs["better"].abs()
            elif name == "safe_loss" or name.startswith("safety/"):
                counts[:, i] = inputs["safer"].abs()
        return counts

    def loss_of(self, means: dict[str, Any]) -> Any:
        """The objective's loss at the current lambda."""
        if self.multiplier is None:
            return means["pair_loss"]
        joined = objectives.lagrangian(means["helpful_loss"], means["safe_loss"], multiplier=self.multiplier.value)
        return joined + self.args.kl_coef * means["kl"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add lambda to each record of training."""
        if "loss" in logs and self.multiplier is not None:
            logs["lambda"] = self.multiplier.value
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate at the lambda of the trainer's state: for a trained folder, the last one of its training."""
        if self.multiplier is not None:
            self.multiplier.restore(self.state)
        return super().evaluate(*args, **kwargs)

    def evaluate_safety(self, output_dir: Path) -> None:
        """Answer and judge the held-out prompts that `eval_generate` asks for. A collective.

        Writes the metrics to safety_eval.json, the answers and their scores to safety_answers.jsonl.
        """
        if self._safety_eval is None:
            return
        folders = _reward_models(self.args, REWARD_MODELS, "train.eval_generate")
        rewards = {
            name: self._live.get(name) or scoring.reward_model(name, folder, self.processing_class, self.args)
            for name, folder in folders.items()
        }
        found, answers = self._safety_eval.run(self.accelerator.unwrap_model(self.model), rewards)
        self.log({f"safety_eval/{name}": value for name, value in evaluation.flat(found).items()})
        if self.is_world_process_zero():
            texts = json.dumps(found, indent=2) + "\n", "".join(json.dumps(each) + "\n" for each in answers)
            for name, text in zip(trained_folder.SAFETY, texts, strict=True):
                (output_dir / name).write_text(text, encoding="utf-8")

    def _losses(self, h: torch.Tensor, inputs: Batch) -> list[torch.Tensor]:
        """The losses of each pair. h and the margins are of a over b; where b is preferred, the label -1 flips them."""
        args, better, safer = self.args, inputs["better"], inputs["safer"]
        scale = {"beta": args.beta, "w": args.mm_w, "k": args.mm_k}
        if args.objective == "lagrangian":
            helpful, harmless = _margin(inputs["helpful"]), _margin(inputs["harmless"])
            return [
                objectives.mm_dpo(better * h, helpful.abs(), **scale) * better.abs(),
                objectives.mm_dpo(safer * h, harmless.abs(), **scale) * safer.abs(),
                objectives.expected_cost(h, *inputs["harmless"].chunk(2)),
            ]
        h = better * h
        if args.objective == "dpo":
            return [objectives.dpo(h, beta=args.beta)]
        if args.objective == "mm_dpo":
            return [objectives.mm_dpo(h, better * _margin(inputs["helpful"]), **scale)]
        if args.objective == "modpo":
            weighted = (1 - args.modpo_weight) * better * _margin(inputs["harmless"])
            return [objectives.modpo(h, weighted, beta=args.beta, weight=args.modpo_weight)]
        a_safe, b_safe = inputs["a_safe"] > 0, inputs["b_safe"] > 0
        safe = torch.where(better > 0, a_safe, b_safe), torch.where(better > 0, b_safe, a_safe)
        if args.objective == "safedpo":
            return [objectives.safedpo(h, *safe, beta=args.beta, delta=args.safedpo_delta)]
        return [objectives.bfpo(h, *safe, beta=args.beta, b1=args.bfpo_b1, alpha=args.bfpo_alpha)]

    def _scored(self, model: Any, inputs: Batch) -> Batch:
        """The batch with all scores, precomputed or live."""
        with torch.no_grad():
            inputs = inputs | {name: score(inputs) for name, score in self._live.items()}
            if "reference" not in inputs:
                with start_model.without_adapter(model, self.accelerator.unwrap_model(model)):
                    inputs["reference"] = scoring.reference_logps(model, inputs)
        return inputs


def _margin(scores: torch.Tensor) -> torch.Tensor:
    """The scores of side a minus those of side b, (B,)."""
    a, b = scores.chunk(2)
    return a - b


def trainer(args: Any, model: Any, adapter: Any, reader: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer; with `scores: precomputed`, score all rows first. A collective.

    reader: the tokenizer; the processor if the rows have images.
    """
    prepare(model)
    model = add(model, adapter, args) if adapter else model
    _require_orders(args.objective, train)
    folders = _reward_models(args, REWARDS[args.objective], f"train.objective {args.objective}")
    after_training = _safety_eval(args, model, reader, evaluation) if args.eval_generate else None
    collate = collator(SIDES, tokenizer_of(reader).pad_token_id)
    if "images" in train.column_names:
        collate = images.collator(SIDES, reader, args.max_length)
    live: dict[str, Scorer] = {}
    if args.scores == "precomputed":
        sets = [rows for rows in (train, evaluation) if rows is not None]
        train, *rest = _with_scores(sets, collate, folders, args, model, reader)
        evaluation = rest[0] if rest else None
    else:
        if not start_model.has_adapter(model):
            live["reference"] = scoring.reference_copy(model, args)
        live |= {name: scoring.reward_model(name, folder, reader, args) for name, folder in folders.items()}
    return SafeDPOTrainer(
        live,
        after_training,
        model=model,
        args=args,
        data_collator=with_labels(collate),
        processing_class=reader,
        train_dataset=train,
        eval_dataset=evaluation,
    )


def _with_scores(
    sets: list[Any], collate: Collate, folders: dict[str, str], args: Any, model: Any, reader: Any
) -> list[Any]:
    """The data sets with columns for the reference and each reward model, one model after the other."""
    tokenizer = tokenizer_of(reader)
    add = partial(score_columns.add, sides=SIDES, args=args, batch_size=args.per_device_eval_batch_size)
    identity = score_columns.of_start_model(
        model, tokenizer, args, scoring, files=chain.from_iterable(map(vision.pictures, sets))
    )
    sets = add(sets, name="reference", identity=identity, load=partial(scoring.reference, model, args), collate=collate)
    words = collator(SIDES, tokenizer.pad_token_id)
    for name, folder in folders.items():
        load = partial(scoring.reward, name, folder, reader, args)
        sets = add(sets, name=name, identity=score_columns.identity(folder, args, scoring), load=load, collate=words)
    return sets


def _require_orders(objective: Objective, rows: Any) -> None:
    """Raise UserError for objective lagrangian if no pair is ordered by helpfulness, or none by safety."""
    if objective == "lagrangian":
        for column, order in (("better", "helpfulness"), ("safer", "safety")):
            if not any(rows[column]):
                raise UserError(
                    f"data.train: no pair is ordered by {order}, and objective lagrangian balances helpfulness and "
                    "safety. Add such pairs, or choose `train.objective: dpo`.",
                    everywhere=True,
                )


def _reward_models(args: Any, names: tuple[str, ...], reader: str) -> dict[str, str]:
    """The folders of these reward models. Raises UserError if one is missing; reader: the setting that needs it."""
    folders = {name: getattr(args, f"{name}_reward_model") for name in names}
    for name, folder in folders.items():
        if folder is None:
            raise UserError(
                f"train.{name}_reward_model: missing, and {reader} reads its scores. Name the output folder of an "
                f"`rm` job, or change {reader}.",
                everywhere=True,
            )
    return folders


def _safety_eval(args: Any, model: Any, reader: Any, evaluation: Any) -> SafetyEval:
    """Prepare the evaluation by generation: have the start model answer. Raises UserError if it could not run later."""
    _reward_models(args, REWARD_MODELS, "train.eval_generate")
    if evaluation is None:
        raise UserError("train.eval_generate asks held-out prompts: name them in data.validation.", everywhere=True)
    return SafetyEval(model, reader, evaluation, args)


def finish(trainer: SafeDPOTrainer, output_dir: Path) -> None:
    """Run the evaluation by generation, if one is asked for, once the weights are saved."""
    trainer.evaluate_safety(output_dir)
