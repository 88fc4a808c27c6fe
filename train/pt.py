"""Continued pretraining: SFT's trainer with every token learnt and the texts packed into blocks of `max_length` tokens.

Texts follow one another, each ended by the end-of-sequence token, and are cut every `max_length` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig  # type: ignore[attr-defined]

from alignlaunch.train.data import Encoder
from alignlaunch.train.encoding import Encoded, encode
from alignlaunch.train.formats import text
from alignlaunch.train.sft import trainer
from alignlaunch.train.turns import Record

__all__ = ["HEAD", "Config", "encoder", "trainer"]

HEAD = "lm"


@dataclass
class Config(SFTConfig):
    """SFTConfig that packs by itself."""

    packing: bool = field(default=True, metadata={"help": "Fill each block; false: a text a block, cut."})
    packing_strategy: str = field(default="wrapped", metadata={"help": "wrapped: cut texts where a block ends."})


def encoder(tokenizer: Any, args: Any) -> Encoder:
    """Tokenise a text and end it."""
    limit = None if args.packing else args.max_length

    def encode_record(record: Record) -> Encoded:
        ids = encode(tokenizer, "", text(record))[0].ids
        return Encoded([{"input_ids": ids[:limit]}], truncated=limit is not None and len(ids) > limit)

    return encode_record
