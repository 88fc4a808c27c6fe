"""From a record to the rows that a stage trains on. No torch here: `alignlaunch data` shows them without it.

Each function makes an encoder for a tokenizer (or, for records with images, a processor) and the training arguments, of
which only LIMITS are read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ...config import Stage
from ..formats.preferences import preference
from ..formats.reading import text
from ..formats.sft import example
from ..formats.turns import Record, is_learnt
from . import vision
from .pair_rows import SIGN, encode_image_pair, encode_pair, labelled
from .tokens import Encoded, Row, encode, encode_answers

Encoder = Callable[[Record], Encoded]
#: The training arguments that affect how a record is encoded.
LIMITS = ("max_length", "max_prompt_length", "truncation_mode", "packing", "objective")
#: The label of tokens that do not count in the loss.
IGNORED = -100


def sft(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise and truncate (`max_length`, `truncation_mode`). With packing nothing is truncated: it cuts blocks."""
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
        cut_off = limit is not None and any(len(t.ids) > limit for t in sequences)
        return Encoded(rows, cut_off, "" if rows else f"nothing to learn within max_length {limit}")

    return encode_record


def sft_images(processor: Any, args: Any) -> Encoder:
    """One row for each answer, after all that precedes it: TRL's collator trains on the end of a row only.

    The collator truncates (`max_length`).
    """
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
        cut_off = limit is not None and any(part.length > limit for part in parts)
        return Encoded(rows, cut_off, "" if rows else f"no answer within max_length {limit}")

    return encode_record


def pt(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise a text, add the end-of-sequence token and truncate (`max_length`; not with packing)."""
    limit = None if args.packing else args.max_length

    def encode_record(record: Record) -> Encoded:
        ids = encode(tokenizer, "", text(record))[0].ids
        return Encoded([{"input_ids": ids[:limit]}], truncated=limit is not None and len(ids) > limit)

    return encode_record


def dpo(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise both answers after their prompt. TRL's collator truncates (`max_length`, `truncation_mode`)."""
    limit = args.max_length

    def encode_record(record: Record) -> Encoded:
        found = preference(record)
        chosen, rejected = encode_answers(tokenizer, found.prompt, [found.chosen, found.rejected], found.tools)
        truncated = limit is not None and max(len(chosen.ids), len(rejected.ids)) > limit
        # The answers may begin at different tokens (only one of them with a <think>): the earlier one ends the prompt.
        start = min(tokens.learnt.index(True) if any(tokens.learnt) else 0 for tokens in (chosen, rejected))
        if start == 0 or chosen.ids[:start] != rejected.ids[:start]:
            return Encoded([], truncated, "no prompt that both answers share")
        if limit is not None and args.truncation_mode == "keep_start" and start >= limit:
            return Encoded([], truncated, f"the prompt alone fills max_length {limit}")
        row = {
            "prompt_ids": chosen.ids[:start],
            "chosen_ids": chosen.ids[start:],
            "rejected_ids": rejected.ids[start:],
            "chosen_learnt": chosen.learnt[start:],
            "rejected_learnt": rejected.learnt[start:],
        }
        return Encoded([row], truncated)

    return encode_record


def dpo_images(processor: Any, args: Any) -> Encoder:
    """Render both answers after their prompt. TRL's collator tokenises and truncates (`max_length`)."""
    limit = args.max_length

    def encode_record(record: Record) -> Encoded:
        found = preference(record)
        chosen, rejected = (
            vision.rendered(
                processor,
                vision.conversation(record, found.prompt, answer),
                len(found.prompt),
                record["images"],
                found.tools,
            )
            for answer in (found.chosen, found.rejected)
        )
        truncated = limit is not None and max(chosen.length, rejected.length) > limit
        if limit is not None and max(chosen.prompt_length, rejected.prompt_length) >= limit:
            return Encoded([], truncated, f"the prompt alone fills max_length {limit}")
        # An answer may begin within the generation prompt (before an opening <think>): both get the shorter prompt.
        given = min(chosen.prompt, rejected.prompt, key=len)
        row = {
            "prompt": given,
            "chosen": chosen.text.removeprefix(given),
            "rejected": rejected.text.removeprefix(given),
            "images": chosen.images,
        }
        return Encoded([row], truncated)

    return encode_record


def rm(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise prompt and answers together. A pair longer than `max_length` is dropped: half an answer has no score."""
    limit = args.max_length

    def encode_record(record: Record) -> Encoded:
        found = preference(record)
        replies = encode_answers(tokenizer, found.prompt, [found.chosen, found.rejected], found.tools)
        chosen, rejected = (tokens.ids for tokens in replies)
        if limit is not None and max(len(chosen), len(rejected)) > limit:
            return Encoded([], why=f"longer than max_length {limit}: half an answer has no score")
        row: Row = {"chosen_ids": chosen, "rejected_ids": rejected}
        if found.margin is not None:
            row["margin"] = found.margin
        if found.safe != (None, None):
            row |= {f"{side}_safe": SIGN[safe] for side, safe in zip(("chosen", "rejected"), found.safe, strict=True)}
        return Encoded([row])

    return encode_record


def orpo(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise both answers after their prompt."""

    def encode_record(record: Record) -> Encoded:
        found = preference(record)
        return encode_pair(
            tokenizer, args, found.prompt, {"chosen": found.chosen, "rejected": found.rejected}, found.tools
        )

    return encode_record


def safe_dpo(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise both responses after their prompt, with the pair's labels."""
    return labelled(args, lambda _, *pair: encode_pair(tokenizer, args, *pair))


def safe_dpo_images(processor: Any, args: Any) -> Encoder:
    """Render both responses after their prompt, with the pair's labels and the paths of the images."""
    return labelled(args, partial(encode_image_pair, processor, args))


class Encoders(NamedTuple):
    """The functions that make a stage's encoders; image_encoder: None if the stage takes no images."""

    encoder: Callable[[Any, Any], Encoder]
    image_encoder: Callable[[Any, Any], Encoder] | None = None


STAGES: dict[Stage, Encoders] = {
    "pt": Encoders(pt),
    "sft": Encoders(sft, sft_images),
    "rm": Encoders(rm),
    "dpo": Encoders(dpo, dpo_images),
    "orpo": Encoders(orpo),
    "safe_dpo": Encoders(safe_dpo, safe_dpo_images),
}
