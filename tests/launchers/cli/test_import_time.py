"""What the quick commands must not load. Seconds are bench/cli.py's business; here only the modules count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Each costs from a quarter of a second to several, and a login node need not even have them.
HEAVY = {"torch", "transformers", "kubernetes", "submitit", "numpy"}
#: What reads and renders a job; help and completion need none of it.
RENDERING = {"jinja2", "yaml", "msgspec", "sqlite3"}

JOB = """
name: quick
stage: orpo
model: model
data: {train: [data]}
nnodes: 2
nproc_per_node: 4
"""

# The modules go to a file: stdout and stderr are the command's own.
PROGRAM = """
import json, pathlib, sys
from alignlaunch.launchers.cli import main
try:
    main(prog_name="alignlaunch")
except SystemExit as end:
    assert not end.code, end.code
pathlib.Path("modules.json").write_text(json.dumps(sorted(sys.modules)))
"""


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """Top-level modules that one run of the command has imported."""
    (folder / "job.yaml").write_text(JOB)
    (folder / "bin").mkdir()
    env = os.environ | {"PATH": str(folder / "bin")}  # no sbatch, so that a dry run asks none
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads((folder / "modules.json").read_text())}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["render", "job.yaml"], ["slurm", "job.yaml", "--dry-run"], ["list"], ["diagnose", "job.yaml"]],
    ids=" ".join,
)
def test_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    loaded = loaded_by(tmp_path, *arguments)
    assert "alignlaunch" in loaded
    assert HEAVY & loaded == set()


def test_help_loads_nothing_that_rendering_needs(tmp_path: Path) -> None:
    assert RENDERING & loaded_by(tmp_path, "--help") == set()
