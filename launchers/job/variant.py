"""What `--set` makes of a job: a variant, with a name and an output folder of its own where it learns something else.

A change of where or how it runs (nodes, partition, time limit, saving) goes on in the job's own output folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import PurePath
from typing import Any

import msgspec

from alignlaunch.train.config import TrainConfig
from alignlaunch.train.outputs import sameness

from ..errors import printable
from . import differences
from .job import Job, Point

#: What stands between the job's name and what the variant changes. No job's own name can have it.
MARK = "+"
#: Longest list of changes in a name. A folder's name has room for 255 letters, a date included.
_LONGEST = 60
_SHORT = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_train_samples": "samples",
    "lr_scheduler_type": "schedule",
}


def of(job: Job, committed: Job | None, overrides: Sequence[str]) -> Job:
    """The variant that `job`, the job file with these overrides, is of the job file alone.

    committed: the job file alone; None if it is no whole job. Returns the committed job itself if nothing differs.
    One that was given another name is a job of its own, and no variant.
    """
    if committed and _said(job) == _said(committed):
        return committed
    named = committed is not None and job.spec.name != committed.spec.name
    moved = committed is None or job.spec.output_dir != committed.spec.output_dir
    changed = _label(job, committed, overrides)
    folder = PurePath(job.spec.output_dir)
    if named:
        other = str(folder.with_name(job.spec.name)) if changed and not moved else job.spec.output_dir
        return replace(job, spec=msgspec.structs.replace(job.spec, output_dir=other))
    said = differences.between(committed.resolved(), job.resolved()) if committed else overrides
    lines = tuple(map(printable, said))
    if not changed:
        return replace(job, varies=lines)
    name = f"{job.spec.name}{MARK}{changed}"
    own = committed is not None and moved
    other = job.spec.output_dir if own else str(folder.with_name(f"{folder.name}{MARK}{changed}"))
    return replace(job, varies=lines, spec=msgspec.structs.replace(job.spec, name=name, output_dir=other))


def _said(job: Job) -> Any:
    return job.resolved(), job.zero


def of_sweep(job: Job, point: dict[str, Any], most: int | None, overrides: Sequence[str]) -> Job:
    """The job at a point of a sweep.

    most: how many run at once. overrides: what the whole sweep was given, which makes all its points variants.
    """
    own = point_label(point)
    also = _label(job, None, overrides) if overrides else ""
    changed = f"{also}-{own}" if also else own
    folder = PurePath(job.spec.output_dir)
    spec = msgspec.structs.replace(
        job.spec,
        name=f"{job.spec.name}{MARK}{changed}",
        output_dir=str(folder.with_name(f"{folder.name}{MARK}{changed}")),
    )
    varies = tuple(map(printable, overrides))
    return replace(job, spec=spec, point=Point(job.spec.name, own, point, most), varies=varies)


def point_label(point: dict[str, Any]) -> str:
    """A point in short: `lr1e-5-seed1`."""
    return _short("-".join(_part(key, value) for key, value in point.items()))


def _label(job: Job, committed: Job | None, overrides: Sequence[str]) -> str:
    """What the job learns otherwise than the committed one, as part of a name: `lr1e-5-seed1`; "" if nothing."""
    now, before = (dict(differences.flat(sameness.of(_trained(one)))) if one else {} for one in (job, committed))
    keys = sorted(key for key in {*now, *before} if now.get(key) != before.get(key))
    if committed is None:
        given = tuple(f"{one.partition('=')[0]}." for one in overrides)
        keys = [key for key in keys if f"{key}.".startswith(given)]
    return _short("-".join(_part(key, now.get(key)) for key in keys))


def _short(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 7].rstrip('-.')}-{_digest(text)[:6]}"


def _trained(job: Job) -> TrainConfig:
    return msgspec.convert(job.resolved(), TrainConfig)


def _part(key: str, value: Any) -> str:
    """`lr1e-5`, `loss-type-ipo`; with a digest where the name cannot say all of the value."""
    last = key.rpartition(".")[2]
    name = _SHORT.get(last, last.replace("_", "-"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{name}{_number(value)}"
    text = value if isinstance(value, str) else json.dumps(value)
    slug = re.sub(r"[^a-z0-9]+", "-", PurePath(text).name.lower()).strip("-")[:24]
    return f"{name}-{slug}" if slug == text else f"{name}-{slug}-{_digest(text)[:4]}".replace("--", "-")


def _number(value: float) -> str:
    """As short as can be: 1e-5 for 1e-05, 3 for 3.0."""
    text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return re.sub(r"e([+-])0*", lambda match: f"e{match[1].strip('+')}", text).replace("+", "")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
