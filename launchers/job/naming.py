"""A job's name where its job file says none: that of the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from ..errors import Problem
from .spec import Name
from .yamlfile import Document

#: What a stem may have that a name may not, and that a `-` can stand for.
_SEPARATORS = re.compile(r"[_.\s]+")


def is_name(value: Any) -> bool:
    """Whether a job or a step may be called so."""
    try:
        msgspec.convert(value, Name)
    except msgspec.ValidationError:
        return False
    return True


def of_file(path: Path) -> str:
    """The stem of a job file as a name: lower-case, with `-` for `_`, `.` and spaces; "" if that makes none."""
    name = _SEPARATORS.sub("-", path.stem.lower()).strip("-")
    return name if is_name(name) else ""


def fill(document: Document, data: dict[str, Any]) -> tuple[list[str], list[Problem]]:
    """Name a job without a name after its file, in `data`. Returns what to say of it, and why it cannot be.

    What was read from a pipe has no file; there the key stays missing.
    """
    path = Path(document.name)
    if "name" in data or not path.is_file():
        return [], []
    if name := of_file(path):
        data["name"] = name
        own = "" if "output_dir" in data else f", and its output_dir is output/{name}"
        return [f"name: {name}, after the job file{own}; under another file name it is another job"], []
    data["name"] = "job"  # of which only the other keys' problems are heard
    rule = (
        "not set in the job file, whose own name cannot be one: lower-case letters, digits and `-`, a letter first, "
        "at most 50 characters"
    )
    return [], [Problem(document.name, "name", None, rule, "add `name: my-job`, or rename the file")]
