"""Where an artifact came from, and why its batch is what it is: lines in it that are no part of what runs."""

from __future__ import annotations

import re

from ..job.job import Job

#: The label of the same in a manifest.
LABEL = "alignlaunch/job-sha256"
_LINE = re.compile(rf"""^(\s*)(# Made by alignlaunch|"{LABEL}":).*""", re.MULTILINE)
_BATCH = "# Batch of a step: "
_BATCH_LINE = re.compile(rf"^[ ]*{_BATCH}.*\n", re.MULTILINE)


def of(job: Job) -> str:
    """The line's words."""
    return line(job.path.name, job.digest)


def line(file: str, digest: str) -> str:
    return f"Made by alignlaunch from {file} (what it says: sha256 {digest})"


def batch(job: Job) -> str:
    """The line on how `train.effective_batch_size` was filled in; empty for a job without it."""
    return f"{_BATCH}{job.batch}\n" if job.batch else ""


def without(text: str) -> str:
    """An artifact's text without these lines' words: artifacts that are then the same run the same."""
    return _BATCH_LINE.sub("", _LINE.sub(r"\1\2", text))
