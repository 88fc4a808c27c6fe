"""Refusing records with a meaningful column that their format would ignore. No torch here.

A question that is ignored is the worst fault that data can have: training goes on and learns something else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from .turns import FormatError, Record, are_turns

#: Names of columns that hold the prompt or its context in common data sets. Lists of turns count under any name.
MEANING = frozenset(
    "conversations conversation messages dialogue dialog prompt question query instruction instructions input inputs "
    "context history system system_prompt tools functions images image videos video audios audio".split()
)
#: Columns of KTO data that say whether an answer is wanted. They have a meaning if they are true or false.
VERDICTS = ("label", "kto_tag")


def refuse_unused(record: Record, read: Collection[str], given: Iterable[Any]) -> None:
    """Raise FormatError for a meaningful column that was not read.

    read: the columns that were read. given: the texts (or parts) read as question, system prompt and so on. A column
    that only repeats these is harmless (such as `prompt` beside `messages` in UltraChat), and so is one that equals a
    column that was read.
    """
    unused = [name for name in record if name not in read and _has_meaning(name, record[name])]
    if not unused:
        return
    known = {text for part in given for text in _texts(part)}
    values = [record[name] for name in read if name in record]
    for name in unused:
        if record[name] not in values and not known.issuperset(_texts(record[name])):
            raise FormatError(
                f"`{name}` has a meaning but would be ignored; read are {', '.join(n for n in record if n in read)}. "
                f"Rename it to a column of the format by `columns`, or drop it by `ignore_columns: [{name}]` (in "
                "`data`, or in the source)"
            )


def _has_meaning(name: str, value: Any) -> bool:
    if value in (None, "", "[]", [], {}) or (isinstance(value, str) and not value.strip()):
        return False
    return name in MEANING or (name in VERDICTS and isinstance(value, bool)) or are_turns(value)


def _texts(value: Any) -> list[str]:
    """The texts in a value, without names and roles; a number or the like gives a text that equals no other."""
    if isinstance(value, str):
        return [value.strip()]
    if isinstance(value, dict):
        value = [v for k, v in value.items() if k not in ("role", "from", "type")]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    return [] if value is None else ["\0"]
