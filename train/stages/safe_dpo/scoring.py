"""Scores that no training step changes: the reference's log-probabilities and the reward models' scores.

A scorer turns a batch of pairs into values: `reference` (N, T - 1), the log-probability of each answer token and zero
elsewhere; `helpful` and `harmless` (N,), a reward model's score of each sequence; all of side a come before side b. The
reference sees the images of a batch that has any; a reward model reads its `text`, which is without them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ...data.encoding import chat_template, vision
from ...data.encoding.tokens import Row, tokenizer_of
from ...errors import UserError
from ...model import frozen
from ...model.loading import placement
from ..pairs import start_model
from ..pairs.collate import Batch
from ..pairs.logps import share, token_logps
from ..pairs.score_columns import Scorer

NAMES = ("reference", "helpful", "harmless")


def reference_logps(model: Any, inputs: Batch) -> torch.Tensor:
    """log p of each answer token, zero elsewhere: (N, T - 1) in nats."""
    return token_logps(model, inputs, inputs["answer_mask"])


def collate(rows: list[Row], sides: tuple[str, str], answer_mask: torch.Tensor) -> Batch:
    """The precomputed columns that the rows have, in the shape in which a scorer returns them."""
    batch: Batch = {}
    for name in NAMES:
        if f"{sides[0]}_{name}" in rows[0]:
            values = [row[f"{side}_{name}"] for side in sides for row in rows]
            if name == "reference":
                batch[name] = torch.zeros(answer_mask[:, 1:].shape)
                batch[name][answer_mask[:, 1:].bool()] = torch.tensor([v for logps in values for v in logps])
            else:
                batch[name] = torch.tensor(values)
    return batch


@contextlib.contextmanager
def reference(model: Any, args: Any) -> Iterator[Scorer]:
    """Yield a scorer by the start model, before training begins."""
    with start_model.before_training(model, args) as begun, start_model.autocast(args):
        yield lambda inputs: reference_logps(begun, inputs)


def reference_copy(model: Any, args: Any) -> Scorer:
    """A scorer by a frozen copy of a model that is about to be trained."""
    copy = start_model.copy(model, args)

    def score(inputs: Batch) -> torch.Tensor:
        with start_model.autocast(args):
            return reference_logps(copy, inputs)

    return score


@contextlib.contextmanager
def reward(name: str, folder: str, reader: Any, args: Any) -> Iterator[Scorer]:
    """Yield a scorer by a reward model that nothing else keeps in memory."""
    yield reward_model(name, folder, reader, args)


def reward_model(name: str, folder: str, reader: Any, args: Any) -> Scorer:
    """A scorer by the output of an `rm` job: a LoRA adapter with its score head, or a full sequence classifier.

    reader: the policy's tokenizer, or a vision-language model's processor. Raises UserError if the folder holds no
    reward model, or one with another vocabulary or chat template, because it scores the policy's tokens as they are.
    Only image placeholder tokens may exist in just one of the two vocabularies, as no scored text contains them.
    """
    from transformers import AutoTokenizer

    key = f"train.{name}_reward_model"
    if not Path(folder).is_dir():
        raise UserError(f"{key}: {folder}: no such folder (looked in {Path.cwd()}). Name the output of an `rm` job.")
    try:
        # (Under ZeRO-3 there is no adapter: the session has merged it into its base.)
        model = _adapter(folder, args) if (Path(folder) / "adapter_config.json").is_file() else _full(folder, args)
        own = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{key}: {folder}: no reward model could be loaded: {why} Name the output of an `rm` job."
        ) from error
    tokenizer = tokenizer_of(reader)
    differing = {token for token, _ in own.get_vocab().items() ^ tokenizer.get_vocab().items()}
    if found := sorted(differing.difference(vision.placeholders(reader))):
        raise UserError(
            f"{key}: {folder}: its tokenizer has another vocabulary than the policy's, whose tokens it is to score "
            f"({len(found)} differ, such as {found[0]!r}). Train the reward model from a model of the same family, or "
            "with the policy's as its job's `tokenizer`.",
            everywhere=True,
        )
    own.chat_template = own.chat_template or chat_template.FALLBACK_CHAT_TEMPLATE
    if differ := chat_template.difference(reader, own):
        policy, reward = (text[:200] for text in differ)
        raise UserError(
            f"{key}: {folder}: it was trained on text of another form: its chat template writes a conversation as "
            f"{reward!r}, and the policy's the same one as {policy!r}. Train the reward model with the policy's as its "
            "job's `tokenizer`.",
            everywhere=True,
        )
    config = model.config.get_text_config()
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id  # the model needs it to find each sequence's last token
    share(model)
    scorer = frozen.settle(model, args)

    def score(inputs: Batch) -> torch.Tensor:
        text = inputs.get("text", inputs)
        ids = text["input_ids"].masked_fill(text["attention_mask"] == 0, config.pad_token_id)
        outputs = scorer(input_ids=ids, attention_mask=text["attention_mask"], use_cache=False)
        return outputs.logits[:, 0].float()  # type: ignore[no-any-return]

    return score


def _full(folder: str, args: Any) -> Any:
    from transformers import AutoModelForSequenceClassification

    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=start_model.dtype(args), output_loading_info=True, **placement(args)
    )
    if info["missing_keys"] or model.config.num_labels != 1:
        raise ValueError("it has no score head with one output.")
    return model


def _adapter(folder: str, args: Any) -> Any:
    from peft import AutoPeftModelForSequenceClassification
    from safetensors import safe_open

    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as weights:
        if not any("score" in name for name in weights.keys()):  # noqa: SIM118 - not a dict
            raise ValueError("the adapter has no score head (modules_to_save).")
    make: Any = AutoPeftModelForSequenceClassification
    return make.from_pretrained(folder, num_labels=1, dtype=start_model.dtype(args), **placement(args))
