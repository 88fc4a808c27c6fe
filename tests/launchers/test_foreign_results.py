"""Results that another user may have written: nothing that their provenance names is run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from alignlaunch.launchers import trained
from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.trained import Trained
from alignlaunch.train import trained_folder


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A trained folder whose provenance names a program and a model's own code."""
    monkeypatch.delenv("ALIGNLAUNCH_PYTHON", raising=False)
    about = {"executable": "/bin/echo", "working_dir": str(tmp_path), "job": "name: a\ntrust_remote_code: true\n"}
    (tmp_path / trained_folder.PROVENANCE).write_text(json.dumps(about))
    return Trained(tmp_path, about)


def test_ones_own_are_believed(results: Trained) -> None:
    assert trained._python(results) == "/bin/echo"


@pytest.mark.parametrize("way", ["everybody may write", "another user's"])
def test_anothers_are_not(results: Trained, way: str) -> None:
    file = results.folder / trained_folder.PROVENANCE
    if way == "everybody may write":
        file.chmod(0o666)
    elif os.getuid() == 0:
        os.chown(file, 65534, 65534)
    else:
        pytest.skip("needs root, to give a file away")
    assert trained._python(results) == sys.executable
    with pytest.raises(UsageError, match="trust_remote_code"):
        trained.evaluate(results, ())
