"""A save costs no copy of weights that are not saved."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from tests.train.conftest import run_program, write_job

#: The entrypoint, with DeepSpeed's copying of a model's weights counted.
PROGRAM = """
import sys
import deepspeed.checkpoint.utils as utils
copy = utils.clone_tensors_for_torch_save
def counted(*args, **kwargs):
    print("copied", flush=True)
    return copy(*args, **kwargs)
utils.clone_tensors_for_torch_save = counted
from alignlaunch.train.__main__ import main
main()
"""


def test_under_zero_2_the_frozen_base_of_an_adapter_is_not_copied(workplace: Path) -> None:
    lora = {"r": 2, "alpha": 4, "dropout": 0.0}
    job = write_job(workplace, "lean", stage="orpo", lora=lora, train={"max_steps": 1})
    done = run_program(workplace, PROGRAM, job, "--deepspeed", "zero2.json")
    assert done.returncode == 0, done.stderr
    assert "copied" not in done.stdout
    saved = load_file(workplace / "out/lean/adapter_model.safetensors")
    assert len(saved) == 2 * 14  # of two layers with seven linear ones each
    assert all(weight.isfinite().all() for weight in saved.values())
