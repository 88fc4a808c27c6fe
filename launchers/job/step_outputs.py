"""`${STEP.output}` in a job's text: the output folder of another step of its pipeline."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..errors import Problem
from .yamlfile import Document, Path_, dotted

#: No shell variable has a dot in its name, so nothing else is written like this.
_REFERENCE = re.compile(r"\$\{([\w-]+)\.([\w-]+)\}")


def find(document: Document) -> list[tuple[Path_, re.Match[str]]]:
    """Every reference, with the path of the value that it stands in. The match's groups: the step, what of it."""
    found: list[tuple[Path_, re.Match[str]]] = []

    def note(path: Path_, reference: re.Match[str]) -> str:
        found.append((path, reference))
        return reference[0]

    _replace(document.data, note)
    return found


def fill(document: Document, outputs: dict[str, str]) -> None:
    """Put the output folders in place of the references. A step without one stays as its bare name."""
    document.data = _replace(document.data, lambda _, reference: outputs.get(reference[1], reference[1]))


def stray(document: Document) -> list[Problem]:
    """The references of a job that runs alone: no other step is there to refer to."""
    rule, remedy = "refers to a step of a pipeline, and this job runs alone", "run the pipeline file, or give the path"
    return [Problem(document.place(path), dotted(path), ref[0], rule, remedy) for path, ref in find(document)]


def _replace(value: Any, answer: Callable[[Path_, re.Match[str]], str], path: Path_ = ()) -> Any:
    """`value` with `answer(path, match)` in place of each reference in its strings."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda reference: answer(path, reference), value)
    if isinstance(value, dict):
        return {key: _replace(item, answer, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, answer, (*path, i)) for i, item in enumerate(value)]
    return value
