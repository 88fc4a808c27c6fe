"""The folder of a pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .stub_steps import STUB


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of the pipeline, with the stand-in as the python of the profile `stub`."""
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (tmp_path / "base").mkdir()
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/stub.yaml").write_text(yaml.safe_dump({"python": str(stub), "device": "cpu"}))
    return tmp_path
