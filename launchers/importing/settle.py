"""Until job file and profile load: a line that one of them may not have is taken back, and said to be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alignlaunch.train.config import REWARD_MODELS, Stage

from ..errors import JobFileError, Problem
from ..job import defaults, jobfile, rules, schema, yamlfile
from ..job.cluster import Cluster
from . import deepspeed, write
from .found import Found, Left, Line

_JOB = "job.yaml"
#: What a safe_dpo job must name and a script may leave to its own defaults.
_JUDGES = [f"train.{name}_reward_model" for name in REWARD_MODELS]


def settle(found: Found, stage: Stage, source: str) -> None:
    """Take back what is refused. Raises JobFileError if a job cannot be had at all."""
    for _ in range(len(found.cluster) + 1):
        document = yamlfile.parse(write.profile(found) or "{}", "cluster.yaml")
        problems = [*schema.check(Cluster, document, document.data), *rules.environment(document, document.data)]
        for problem in problems:
            _take_back(found, found.cluster, problem)
    for _ in range(len(found.job) + 2):
        before = write.job(found, source)
        try:
            document = yamlfile.parse(before, _JOB)
            jobfile.build(document, (), None)
        except JobFileError as error:
            for problem in error.problems:
                _take_back(found, found.job, problem)
            if write.job(found, source) == before:
                raise
        else:
            found.silent = _silent(stage, yamlfile.parse(before, _JOB).data)
            return


def _silent(stage: Stage, data: dict[str, Any]) -> dict[str, Any]:
    """The stage's defaults that the job will have."""
    evaluates = any(defaults.given(data, f"data.{key}") for key in ("validation", "validation_share"))
    train = data.get("train", {})
    evaluates = evaluates and train.get("eval_strategy") != "no"
    by_steps = isinstance(train.get("max_steps"), int) and train["max_steps"] > 0
    of_evaluation = (
        "train.eval_strategy",
        "train.eval_steps",
        "train.per_device_eval_batch_size",
        "data.max_eval_samples",
    )
    return {
        one.key: one.value
        for one in defaults.for_stage(stage)
        if not defaults.given(data, one.key)
        and not defaults.displaced(one, data)
        and not (one.key.startswith("lora.") and data.get("lora", "") is None)
        and (evaluates or one.key not in of_evaluation)
        and not (one.key == "train.save_steps" and train.get("save_strategy") in ("no", "epoch"))
        and not (by_steps and one.key == "train.num_train_epochs")
    }


def _take_back(found: Found, lines: dict[str, Line], problem: Problem) -> None:
    why = f"{problem.rule}; {problem.remedy}" if problem.remedy else problem.rule
    zero = lines.get("zero")
    if (
        zero is not None
        and isinstance(zero.value, str)
        and (problem.key == "zero" or _is_in(problem.place, zero.value))
    ):
        given = zero.given[0]._replace(value=zero.value)
        del lines["zero"]
        found.refuse(given, f"{problem.key}: {why}")
        deepspeed.instead(found, given, "the file cannot be used as it is")
        return
    key, _, index = problem.key.partition("[")
    item = re.match(r"(\d+)\]", index)
    line = lines.get(key)
    if (
        line is not None
        and item
        and isinstance(line.value, list)
        and int(item[1]) < len(line.value) == len(line.given) > 1
    ):
        found.cannot.append(Left(line.given[int(item[1])], why))
        line.value = [one for i, one in enumerate(line.value) if i != int(item[1])]
        line.given = [one for i, one in enumerate(line.given) if i != int(item[1])]
        return
    if key in _JUDGES and key not in lines:
        found.fill(key, f"models/{key.removeprefix('train.').removesuffix('_reward_model')}_rm", "write yours")
        return
    names = [name for name in lines if name == key or key.startswith(f"{name}.")]
    for name in names or [name for name in lines if name.startswith(f"{key}.")]:
        found.take_back(name, why, lines)
        if name == "model":
            found.fill("model", "MODEL", "write a folder or a hub id")
        if name == "data.train":
            found.fill("data.train", ["DATA"], "write a file, a folder or a hub id")


def _is_in(place: str, file: str) -> bool:
    return place == str(Path(file)) or place.startswith(f"{Path(file)}:")
