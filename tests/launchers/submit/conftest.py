"""The folder of a pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from .stub_steps import make_place


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of the pipeline."""
    return make_place(tmp_path)
