"""Two answers to one prompt with images: batches with the pixels, from rows of text and image files (`pair_rows`).

A model that sees reads `{side}_prompt` and `{side}_answer`, tokenised as one text when the batch is made, each image as
many tokens as it becomes. A reward model judges the words alone: the same conversation rendered without its images,
tokenised in the row as `pairs` does.
"""

from __future__ import annotations

from typing import Any

import torch

from ..data.encoding import vision
from ..data.encoding.tokens import Row
from . import pairs
from .pairs import Batch, Collate


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
