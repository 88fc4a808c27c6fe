"""Continued pretraining: SFT's trainer with every token learnt and the texts packed into blocks of `max_length` tokens.

Texts follow one another, each ended by the end-of-sequence token, and are cut every `max_length` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import SFTConfig  # type: ignore[attr-defined]

from ..data.encoding import encoders
from .sft import trainer

__all__ = ["HEAD", "Config", "encoder", "trainer"]

HEAD = "lm"
encoder = encoders.pt


@dataclass
class Config(SFTConfig):
    """SFTConfig that packs by itself."""

    packing: bool = field(default=True, metadata={"help": "Fill each block; false: a text a block, cut."})
    packing_strategy: str = field(default="wrapped", metadata={"help": "wrapped: cut texts where a block ends."})
