"""The artifacts of a job, as `render` leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile


@pytest.fixture
def folder(job_file: Path) -> Path:
    """The bash artifacts of the minimal job."""
    loaded = jobfile.load(job_file)
    place = drift.folder_of(loaded, "bash")
    drift.write(place, drift.artifacts(loaded, "bash", place))
    return place
