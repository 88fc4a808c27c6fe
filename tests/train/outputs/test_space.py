"""A disk that is too small for a checkpoint is reported before the training, by what checkpoints really take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.outputs import manifest
from tests.support.matrix import matrix
from tests.train.conftest import ROOT, write_job

TRAIN = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
#: What a checkpoint holds besides weights and optimizer state.
SMALL = 110_000

SPY = """
from alignlaunch.train import __main__ as entrypoint
from alignlaunch.train.outputs import space
found = space.checkpoint_bytes
def spy(model, args):
    print("estimate", found(model, args), flush=True)
    return found(model, args)
space.checkpoint_bytes = spy
entrypoint.main()
"""


@pytest.mark.parametrize(
    ("nproc", "zero", "lora"),
    [(1, None, None), matrix(1, None, {"r": 8}), matrix(2, "zero2.json", None), matrix(2, "zero3.json", None)],
)
def test_the_estimate_is_what_is_written(
    workplace: Path, nproc: int, zero: str | None, lora: dict[str, Any] | None
) -> None:
    name = f"space-{nproc}-{zero}-{lora is not None}"
    job = write_job(workplace, name, train=TRAIN, lora=lora)
    (workplace / "spy.py").write_text(SPY)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}"] if nproc > 1 else []
    options = ["--deepspeed", zero] if zero else []
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "spy.py", str(job), *options]
    done = subprocess.run(command, cwd=workplace, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    estimate = int(done.stdout.partition("estimate ")[2].split()[0])
    whole = manifest.read(workplace / "out" / name / "checkpoint-1")
    assert whole is not None
    written = sum(file.size for file in whole.files)
    assert estimate * 0.95 <= written <= estimate * 1.05 + SMALL


def test_a_disk_that_cannot_hold_one_is_refused_before_the_training(workplace: Path) -> None:
    if os.geteuid():
        pytest.skip("only root mounts a small file system")
    job = write_job(workplace, "small-disk", train=TRAIN)
    (workplace / "out" / "small-disk").mkdir(parents=True)
    mounted = 'mount -t tmpfs -o size=64k tmpfs out/small-disk && exec "$@"'
    command = ["unshare", "--mount", "bash", "-c", mounted, "bash", sys.executable, "-m", "alignlaunch.train", str(job)]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=workplace, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "output_dir: out/small-disk: 0.00 GiB are free, and a checkpoint takes about" in done.stderr
    assert "step 1/" not in done.stdout


#: Fills the disk before a method of the trainer is called.
FILLER = """
import contextlib, sys
from pathlib import Path
from alignlaunch.train import __main__ as entrypoint
from alignlaunch.train.stages.trainer import StageTrainer
from transformers import Trainer
owner = StageTrainer if hasattr(StageTrainer, "{method}") else Trainer
original = getattr(owner, "{method}")
def fill(*args, **kwargs):
    with contextlib.suppress(OSError), Path("out/full/filler").open("wb", buffering=0) as file:
        while file.write(bytes(1 << 12)):
            pass
    return original(*args, **kwargs)
owner.{method} = fill
entrypoint.main()
"""


@pytest.mark.parametrize("method", ["save_model", "_save_optimizer_and_scheduler", "_save_rng_state"])
def test_a_disk_that_becomes_full_while_a_checkpoint_is_saved_ends_the_run_in_words(
    workplace: Path, method: str
) -> None:
    """safetensors, torch and Python each have an error of their own for it."""
    if os.geteuid():
        pytest.skip("only root mounts a small file system")
    job = write_job(workplace, "full", train=TRAIN, lora=None)
    (workplace / "out" / "full").mkdir(parents=True, exist_ok=True)
    (workplace / "filler.py").write_text(FILLER.format(method=method))
    mounted = 'mount -t tmpfs -o size=64m tmpfs out/full && exec "$@"'
    command = ["unshare", "--mount", "bash", "-c", mounted, "bash", sys.executable, "filler.py", str(job)]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=workplace, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "checkpoint-1: the checkpoint cannot be saved: No space left on device. Make room there" in done.stderr
    assert "Traceback" not in done.stderr
