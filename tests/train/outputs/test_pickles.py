"""A checkpoint that another may have written cannot run code, though its manifest is right: it is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from alignlaunch.train.outputs import manifest
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner

TRAIN = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def whole(run_job: Runner) -> Finished:
    found = run_job("honest", train=TRAIN)
    assert found.code == 0, found.stderr
    return found


@pytest.mark.parametrize("file", ["optimizer.pt", "rng_state.pth", matrix("scheduler.pt")])
def test_a_planted_pickle_is_refused(file: str, whole: Finished, run_job: Runner, tmp_path: Path) -> None:
    mark, checkpoint = tmp_path / "it-ran", tmp_path / "checkpoint-2"
    shutil.copytree(whole.output_dir / "checkpoint-2", checkpoint)
    torch.save({"state": Evil(mark)}, checkpoint / file)
    written = manifest.read(checkpoint)
    assert written is not None
    files = [manifest.describe(checkpoint, checkpoint / one.path, one.rank) for one in written.files]
    manifest.write(checkpoint, msgspec.structs.replace(written, files=files))

    found = run_job(f"planted-{file}", train=TRAIN, resume=str(checkpoint))
    assert not mark.exists()
    assert found.code == 2
    assert f"{checkpoint}: cannot be resumed: one of its files holds more than plain tensors" in found.stderr
    assert "Traceback" not in found.stderr
    torch.load(checkpoint / file, weights_only=False)  # it would have
    assert mark.exists()
