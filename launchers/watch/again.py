"""What a run was submitted with, to submit it once more."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..audit import provenance
from ..backends import registry
from ..errors import UsageError
from . import states


class Again(NamedTuple):
    """A submission like that of a run. options: of the backend."""

    scheme: str
    job_file: Path  # or the pipeline's
    overrides: tuple[str, ...]
    cluster: str | None
    only: tuple[str, ...]  # points of a sweep; (): all that the file has
    options: dict[str, str]


def of(text: str) -> Again:
    """The submission of a run or pipeline once more. Raises UsageError for one that has not ended, or is not known."""
    runs = states.refresh(states.find(text))
    for run in runs:
        if not run.status.is_final:
            remedy = f"wait for its end, or end it: alignlaunch cancel {run.handle}"
            raise UsageError(f"{run.handle}: it is {run.status.state}\n    remedy: {remedy}")
    run = runs[0]
    made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    path = (made_from.get("pipeline") or {}).get("path") or made_from.get("job_file")
    if not path or not Path(path).is_file():
        what = f"its job file {path} is gone" if path else "what it was made from is not known"
        raise UsageError(f"{run.handle}: {what}\n    remedy: submit a job file")
    options = registry.of(run.scheme).options_of(run)
    made = [provenance.read(Path(one.run_dir)) if one.run_dir else {} for one in runs]
    points = [one["pipeline"]["step"] for one in made if one.get("point") and one.get("pipeline")]
    only = tuple(points) if len(points) == len(runs) else ()
    return Again(run.scheme, Path(path), tuple(made_from.get("set") or ()), made_from.get("cluster"), only, options)
