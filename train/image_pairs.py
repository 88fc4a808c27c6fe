"""Two answers to one prompt with images: rows of text and image files, and batches with the pixels.

A model that sees reads `{side}_prompt` and `{side}_answer`, tokenised as one text when the batch is made, each image as
many tokens as it becomes. A reward model judges the words alone: the same conversation rendered without its images,
tokenised in the row as `pairs` does.
"""

from __future__ import annotations

from typing import Any

import torch

from alignlaunch.train import images, pairs, vision
from alignlaunch.train.encoding import Encoded, Row
from alignlaunch.train.pairs import Batch, Collate
from alignlaunch.train.turns import Record, Tools, Turns

#: Columns of a row for each side, beside those of `pairs` and `images`.
COLUMNS = ("prompt", "answer", "answer_length")


def encode_pair(
    processor: Any, args: Any, record: Record, prompt: Turns, answers: dict[str, Turns], tools: Tools
) -> Encoded:
    """Render two answers, named by side, after their prompt; `{side}_answer_length` is in tokens.

    An answer loses its end (in the collator). A prompt with images is never cut: no row where it is longer than
    `max_prompt_length`, or leaves nothing of `max_length` to an answer.
    """
    turns = {side: vision.conversation(record, prompt, answer) for side, answer in answers.items()}
    start = len(prompt)
    parts = {side: vision.rendered(processor, found, start, record["images"], tools) for side, found in turns.items()}
    words = {side: images.without(found) for side, found in turns.items()}
    asked = next(iter(words.values()))[:start]
    text = pairs.encode_pair(processor, args, asked, {side: found[start:] for side, found in words.items()}, tools)
    row: Row = {"images": record["images"]}
    for side, part in parts.items():
        row |= {
            f"{side}_prompt": part.prompt,
            f"{side}_answer": part.text.removeprefix(part.prompt),
            f"{side}_answer_length": part.length - part.prompt_length,
        }
    kept = all(_fits(part, args) for part in parts.values())
    cut = args.max_length is not None and any(part.length > args.max_length for part in parts.values())
    return Encoded([row | found for found in text.rows] if kept else [], truncated=cut)


def _fits(part: vision.Rendered, args: Any) -> bool:
    longest = part.length if args.max_length is None else min(part.length, args.max_length)
    return part.prompt_length < longest and (
        args.max_prompt_length is None or part.prompt_length <= args.max_prompt_length
    )


def collator(sides: tuple[str, str], processor: Any, max_length: int | None) -> Collate:
    """Batch the pairs for one forward, as `pairs.collator` does: the images once for each side.

    `images` in the batch is all that the processor returns beside tokens and mask (pixels, grids, kinds of tokens), for
    the model's forward; `text` is the batch of the words alone.
    """
    collate_words = pairs.collator(sides, processor.tokenizer.pad_token_id)

    def collate(rows: list[Row]) -> Batch:
        texts = [row[f"{side}_prompt"] + row[f"{side}_answer"] for side in sides for row in rows]
        read = vision.tokenised(processor, texts, [row["images"] for row in rows] * 2, padding_side="right")
        mask = read["attention_mask"]
        # The answer ends its text: counted from there, it matters not how many tokens an image is.
        answers = torch.tensor([row[f"{side}_answer_length"] for side in sides for row in rows])
        start = (mask.sum(1) - answers)[:, None]
        read["answer_mask"] = mask * (torch.arange(mask.shape[1]) >= start)
        of_tokens = [name for name, value in read.items() if getattr(value, "shape", None) == mask.shape]
        read |= {name: read[name][:, :max_length] for name in of_tokens}
        tokens = {name: read.pop(name) for name in ("input_ids", "attention_mask", "answer_mask")}
        return tokens | {"images": read, "text": collate_words(rows)}

    return collate
