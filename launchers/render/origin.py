"""Where an artifact came from: a line in it, which is no part of what runs."""

from __future__ import annotations

import re

from ..job.job import Job

#: The label of the same in a manifest.
LABEL = "alignlaunch/job-sha256"
_LINE = re.compile(rf"""^(\s*)(# Made by alignlaunch|"{LABEL}":).*""", re.MULTILINE)


def of(job: Job) -> str:
    """The line's words."""
    return line(job.path.name, job.digest)


def line(file: str, digest: str) -> str:
    return f"Made by alignlaunch from {file} (what it says: sha256 {digest})"


def without(text: str) -> str:
    """An artifact's text with that line emptied: artifacts that are then the same run the same."""
    return _LINE.sub(r"\1\2", text)
