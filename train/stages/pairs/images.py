"""Two answers to one prompt with images: batches with the pixels, from rows of text and image files (`pair_rows`).

The policy and its reference read `{side}_prompt` and `{side}_answer`, tokenised as one text when the batch is made,
with each image expanded to its tokens. A reward model reads text only: the same conversation rendered without images,
whose tokens are in the row as for `collate`.
"""

from __future__ import annotations

from typing import Any

import torch

from ...data.encoding import vision
from ...data.encoding.tokens import Row
from . import collate as words
from .collate import Batch, Collate


def collator(sides: tuple[str, str], processor: Any, max_length: int | None) -> Collate:
    """A collator of pairs for one forward, as `collate.collator`, with the images once for each side.

    `images` in the batch holds all that the processor returns besides tokens and mask (pixels, grids, token types), for
    the model's forward; `text` is the batch without images, for reward models.
    """
    collate_words = words.collator(sides, processor.tokenizer.pad_token_id)

    def collate(rows: list[Row]) -> Batch:
        texts = [row[f"{side}_prompt"] + row[f"{side}_answer"] for side in sides for row in rows]
        read = vision.tokenised(processor, texts, [row["images"] for row in rows] * 2, padding_side="right")
        mask = read["attention_mask"]
        # The answer is the end of the text: counted from there, the images' number of tokens does not matter.
        answers = torch.tensor([row[f"{side}_answer_length"] for side in sides for row in rows])
        start = (mask.sum(1) - answers)[:, None]
        read["answer_mask"] = mask * (torch.arange(mask.shape[1]) >= start)
        of_tokens = [name for name, value in read.items() if getattr(value, "shape", None) == mask.shape]
        read |= {name: read[name][:, :max_length] for name in of_tokens}
        tokens = {name: read.pop(name) for name in ("input_ids", "attention_mask", "answer_mask")}
        return tokens | {"images": read, "text": collate_words(rows)}

    return collate
