"""The job's `checkpoint`: two of its keys are the job's words for the trainer's, two make a second tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import Problem
from .yamlfile import Document

#: Keys of `checkpoint`, and the arguments of the trainer that they stand for.
_TWINS = {"every": "save_steps", "keep": "save_total_limit"}


def apply(document: Document, data: dict[str, Any]) -> list[Problem]:
    """Put `every` and `keep` in the place of their twins in `train:`, which may not be given as well."""
    keys, train = data.get("checkpoint"), data.get("train")
    if not isinstance(keys, dict) or not isinstance(train, dict):
        return []  # the schema check reports it
    problems = []
    for key, twin in _TWINS.items():
        if keys.get(key) is None:
            continue
        if ("train", twin) in document.values:
            rule = f"says the same as train.{twin}, which is given as well"
            problems.append(_problem(document, key, keys[key], rule, "keep one of the two"))
        elif isinstance(keys[key], int):
            train[twin] = keys[key]
    strategy = train.get("save_strategy", "steps")
    if keys.get("every") is not None and strategy != "steps":
        rule = f"is a number of steps, and train.save_strategy is {strategy}"
        problems.append(_problem(document, "every", keys["every"], rule, "keep one of the two"))
    return problems


def tiers(document: Document, data: dict[str, Any], job_dir: Path) -> list[Problem]:
    """The second tier is saved into more often than `output_dir`, and lies elsewhere."""
    keys, train = data.get("checkpoint"), data.get("train")
    if not isinstance(keys, dict) or not isinstance(train, dict):
        return []
    local, every = keys.get("local"), keys.get("local_every")
    if local is None and every is None:
        return []
    if local is None or every is None:
        given, other = ("local_every", "local") if local is None else ("local", "local_every")
        rule, remedy = f"means nothing without `{other}`", "`checkpoint: {local: /scratch, local_every: 50}`"
        return [_problem(document, given, keys[given], rule, remedy)]
    problems = []
    if isinstance(local, str):
        output = (job_dir / str(data.get("output_dir"))).resolve()
        if not local.startswith("/"):
            rule, remedy = "is a folder of each node, not beside the job file", "give an absolute path"
            problems.append(_problem(document, "local", local, rule, remedy))
        elif Path(local).resolve().is_relative_to(output):
            rule, remedy = f"lies in the output folder ({output})", "name a folder on the node's own disk"
            problems.append(_problem(document, "local", local, rule, remedy))
    if train.get("save_only_model"):
        rule = "with train.save_only_model a checkpoint cannot be resumed"
        problems.append(_problem(document, "local", local, rule, "remove one of the two"))
    steps, strategy = train.get("save_steps", 500), train.get("save_strategy", "steps")
    counted = strategy == "steps" and isinstance(steps, int) and isinstance(every, int) and every > 0
    if counted and (steps <= every or steps % every):
        rule = f"the output folder gets a checkpoint every {steps} steps, which is no multiple of it"
        problems.append(_problem(document, "local_every", every, rule, f"a smaller number that divides {steps}"))
    return problems


def _problem(document: Document, key: str, value: Any, rule: str, remedy: str) -> Problem:
    return Problem(document.place(("checkpoint", key)), f"checkpoint.{key}", value, rule, remedy)
