"""Supervised fine-tuning by TRL's SFTTrainer; the loss is on the assistant's turns (or the completion) only.

The rows come tokenised and labelled from `encoding`, so that the mask is right for every chat template (TRL's own
`assistant_only_loss` needs templates with generation marks). TRL packs, pads and trains. Its loss is the mean over the
tokens of the global step.
"""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from alignlaunch.train import vision
from alignlaunch.train.data import Encoder
from alignlaunch.train.encoding import Encoded, encode
from alignlaunch.train.reporting import MeasuredTrainer
from alignlaunch.train.sft_formats import example
from alignlaunch.train.turns import Record, is_learnt

HEAD = "lm"
Config = SFTConfig
IGNORED = -100


def encoder(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise and truncate as `args` says (`max_length`, `truncation_mode`). Packing cuts for itself."""
    limit = None if args.packing else args.max_length
    cut = slice(None, limit) if args.truncation_mode == "keep_start" or limit is None else slice(-limit, None)

    def encode_record(record: Record) -> Encoded:
        found = example(record)
        sequences = encode(tokenizer, found.prompt, found.completion, found.tools)
        rows = []
        for tokens in sequences:
            labels = [i if learnt else IGNORED for i, learnt in zip(tokens.ids, tokens.learnt, strict=True)][cut]
            # The first token is never predicted.
            if any(label != IGNORED for label in labels[1:]):
                rows.append({"input_ids": tokens.ids[cut], "labels": labels})
        return Encoded(rows, truncated=limit is not None and any(len(t.ids) > limit for t in sequences))

    return encode_record


def image_encoder(processor: Any, args: Any) -> Encoder:
    """One row an answer, after all that comes before it: TRL's collator learns the end of a row only, and cuts it."""
    limit = args.max_length

    def encode_record(record: Record) -> Encoded:
        found = example(record)
        messages = vision.conversation(record, found.prompt, found.completion)
        answers = [i for i in range(len(found.prompt), len(messages)) if is_learnt(messages[i])]
        parts = [vision.rendered(processor, messages[: i + 1], i, record["images"], found.tools) for i in answers]
        rows = [
            {"prompt": part.prompt, "completion": part.text.removeprefix(part.prompt), "images": part.images}
            for part in parts
            if limit is None or part.prompt_length < limit
        ]
        return Encoded(rows, truncated=limit is not None and any(part.length > limit for part in parts))

    return encode_record


class Trainer(MeasuredTrainer, SFTTrainer):
    """TRL's trainer, with its speed measured."""


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    return Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
    )
