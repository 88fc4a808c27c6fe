"""What a data format is: the columns of a record, and how they are read into the stage's own type. No torch here.

The formats themselves are in `sft`, `preferences` and `safety`; that of pretraining is here. Text stays text: a chat
template is applied later, and only if the record is a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from . import columns
from .fields import optional_text
from .turns import FormatError, Record, Turns

T = TypeVar("T")
Reader = Callable[[Record], T]
#: Columns that are read in every format, by the stages that take images.
IMAGES = ("images", "image")


@dataclass(frozen=True, slots=True)
class Format(Generic[T]):
    """One format of a record: the columns that it needs and those that it may have besides.

    when: a further condition. about: what the names of the columns do not tell, for messages. A stage that takes
    images also reads `images` or `image`.
    """

    needs: tuple[str, ...]
    may: tuple[str, ...]
    read: Reader[T]
    about: str = ""
    when: Reader[bool] = lambda _: True

    def fits(self, record: Record) -> bool:
        """Whether a record has this format."""
        return all(record.get(name) is not None for name in self.needs) and self.when(record)

    def __str__(self) -> str:
        return ", ".join(self.needs) + (f" ({self.about})" if self.about else "")


class Read(Protocol):
    """What `read` makes of a record: `Example`, `Preference` or `SafePreference`."""

    def parts(self) -> list[Turns]:
        """All turns or texts."""

    def given(self) -> list[Any]:
        """The texts that the model is given and does not learn."""


R = TypeVar("R", bound=Read)


def choose(record: Record, formats: Sequence[Format[T]]) -> Format[T]:
    """The first of the formats that fits a record. Raises FormatError if none does."""
    for form in formats:
        if form.fits(record):
            return form
    found = ", ".join(name if value is not None else f"{name} (null)" for name, value in record.items()) or "none"
    raise FormatError(f"columns found: {found}; accepted: " + "; or ".join(map(str, formats)))


def read(record: Record, formats: Sequence[Format[R]]) -> R:
    """Read a record by the first format that fits. Raises FormatError if something meaningful would be ignored."""
    form = choose(record, formats)
    found = form.read(record)
    columns.refuse_unused(record, {*form.needs, *form.may, *IMAGES}, found.given())
    contents = [turn["content"] for part in found.parts() for turn in part if isinstance(turn, dict)]
    if any(isinstance(content, list) for content in contents) and not any(record.get(name) for name in IMAGES):
        raise FormatError("a turn contains an image, but the record names no file of it in `images`")
    return found


def _text(record: Record) -> str:
    if not (found := optional_text(record, "text")).strip():
        raise FormatError("`text` is empty: there is nothing to learn")
    return found


TEXT_FORMATS = (Format(("text",), (), _text),)


def text(record: Record) -> str:
    """Read one pretraining record: `text`."""
    form = choose(record, TEXT_FORMATS)
    columns.refuse_unused(record, form.needs, ())
    return form.read(record)
