"""Files are small enough to read in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 300


@pytest.mark.parametrize("folder", ["launchers", "train", "tests"])
def test_no_file_is_longer_than_can_be_read_at_once(folder: str) -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert {str(path): count for path, count in lines.items() if count > MOST} == {}
