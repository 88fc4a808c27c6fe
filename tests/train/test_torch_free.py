"""What the submit host may import must not need torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "config",
        "data.formats.readers",
        "stages.registry",
        "processes.rendezvous",
        "finish",
        "flops",
        "outputs.checkpoints",
        "outputs.goodput",
        "trained_folder",
        "data.formats.reading",
        "data.sources",
        "arguments.trainer_args",
        "arguments.deepspeed_keys",
    ],
)
def test_no_torch(module: str) -> None:
    code = (
        f"import sys, alignlaunch.train.{module}; "
        "print(*(m for m in ('torch', 'transformers', 'datasets', 'trl', 'numpy') if m in sys.modules))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_stage_is_a_module_with_its_names() -> None:
    from typing import get_args

    from alignlaunch.train.config import Stage
    from alignlaunch.train.data.formats import readers
    from alignlaunch.train.stages import registry

    assert set(readers.READERS) == set(get_args(Stage))
    for stage in readers.READERS:
        assert {"HEAD", "Config", "encoder", "trainer"} <= vars(registry.load(stage)).keys()
