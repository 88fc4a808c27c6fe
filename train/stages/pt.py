"""Continued pretraining: SFT's trainer, with the loss on every token and the texts packed into blocks.

Texts are concatenated, each followed by the end-of-sequence token, and cut every `max_length` tokens.
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
    """SFTConfig with packing as the default."""

    packing: bool = field(default=True, metadata={"help": "Fill each block; false: one text a block, truncated."})
    packing_strategy: str = field(default="wrapped", metadata={"help": "wrapped: cut texts where a block ends."})
