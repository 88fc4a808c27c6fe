"""Time limits, as Slurm reads them, and the warning before their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.job import job, jobfile
from alignlaunch.launchers.render import render

from .job_files import write


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("10080", 604800),
        ("5:30", 330),
        ("12:00:00", 43200),
        ("2-0", 172800),
        ("1-12:30", 131400),
        ("1-00:00:01", 86401),
        ("1:2:3", 3723),
        *[(text, None) for text in ("UNLIMITED", "unlimited", "Infinite", "infinite", "0", "0:00", "0-0")],
    ],
)
def test_time_limits_as_slurm_reads_them(tmp_path: Path, limit: str, seconds: int | None) -> None:
    assert jobfile.load(write(tmp_path), (f'time="{limit}"',)).spec.time == limit
    assert job.seconds(limit) == seconds


def test_a_time_limit_in_minutes_needs_no_quotes_and_0_is_none(tmp_path: Path) -> None:
    thirty, none = (jobfile.load(write(tmp_path), (f"time={minutes}",)) for minutes in (30, 0))
    assert (thirty.spec.time, job.seconds(30), thirty.signal_seconds) == (30, 1800, 300)
    assert (none.spec.time, job.seconds(0), none.signal_seconds) == (0, None, 300)
    assert "#SBATCH --time=30\n" in render.render(thirty, "slurm", "job.yaml")["job.sbatch"]
    assert "#SBATCH --time=0\n" in render.render(none, "slurm", "job.yaml")["job.sbatch"]


def test_a_job_shorter_than_the_warning_gets_none(tmp_path: Path) -> None:
    assert jobfile.load(write(tmp_path), ('time="5:00"',)).signal_seconds == 0
    assert jobfile.load(write(tmp_path), ('time="5:01"',)).signal_seconds == 300
