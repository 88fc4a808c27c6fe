"""The reader and the formats of each stage. No torch here: the submitting side checks a job's data with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...config import Stage
from .preferences import PREFERENCE_FORMATS, preference
from .reading import TEXT_FORMATS, Format, text
from .safety import SAFETY_FORMATS, safe_preference
from .sft import SFT_FORMATS, example
from .turns import Record

#: Reads one record of a stage; raises FormatError for a bad one.
READERS: dict[Stage, Callable[[Record], object]] = {
    "pt": text,
    "sft": example,
    "rm": preference,
    "dpo": preference,
    "orpo": preference,
    "safe_dpo": safe_preference,
}
#: The formats in which these readers accept a record.
FORMATS: dict[Stage, tuple[Format[Any], ...]] = {
    "pt": TEXT_FORMATS,
    "sft": SFT_FORMATS,
    "rm": PREFERENCE_FORMATS,
    "dpo": PREFERENCE_FORMATS,
    "orpo": PREFERENCE_FORMATS,
    "safe_dpo": SAFETY_FORMATS,
}
