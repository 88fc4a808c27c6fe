"""What a run must not have imported by its end. The seconds are bench/startup.py's business."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alignlaunch.train import __main__ as entrypoint
from alignlaunch.train import imports
from alignlaunch.train.config import Data, TrainConfig
from alignlaunch.train.errors import UserError
from tests.support.matrix import matrix

from .conftest import run_program, write_job

#: What costs the most and is only for some jobs.
HEAVY = {
    "peft",
    "bitsandbytes",
    "deepspeed",
    "torch._inductor.compile_fx",
    "wandb",
    "tensorflow",
    "torchvision",
    "vllm",
}

PROGRAM = """
import json, pathlib, sys
from alignlaunch.train import __main__ as entrypoint, finish
try:
    code = entrypoint.run(sys.argv[1:-1])
finally:
    loaded = sorted(name for name, module in sys.modules.items() if module is not None)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(loaded))
finish.leave(code)
"""


def loaded_by(workplace: Path, tmp_path: Path, name: str, *options: str, **changes: Any) -> set[str]:
    """The modules of one process that has trained to its end."""
    job = write_job(workplace, name, train={"max_steps": 1}, **changes)
    listed = tmp_path / "modules.json"
    done = run_program(workplace, PROGRAM, job, *options, str(listed))
    assert done.returncode == 0, done.stderr
    return set(json.loads(listed.read_text()))


@pytest.mark.parametrize("stage", [matrix("sft"), "orpo"])
def test_a_plain_run_imports_nothing_heavy_that_it_does_not_use(workplace: Path, tmp_path: Path, stage: str) -> None:
    assert find_spec("peft")
    loaded = loaded_by(workplace, tmp_path, f"imports-{stage}", stage=stage)
    assert {"torch", "transformers"} <= loaded
    assert HEAVY & loaded == set()
    assert ("trl.trainer.sft_trainer" in loaded) == (stage == "sft")  # its head is for all, at 0.15 s


def test_lora_needs_peft_and_nothing_more(workplace: Path, tmp_path: Path) -> None:
    loaded = loaded_by(workplace, tmp_path, "imports-lora", stage="orpo", lora={"r": 2})
    assert HEAVY & loaded == {"peft"}


def test_zero_needs_deepspeed_and_nothing_more(workplace: Path, tmp_path: Path) -> None:
    loaded = loaded_by(workplace, tmp_path, "imports-zero", "--deepspeed", "zero2.json", stage="orpo")
    assert (HEAVY - {"torch._inductor.compile_fx"}) & loaded == {"deepspeed"}  # which compiles functions of its own


def unneeded(model: Path, **changes: Any) -> list[str]:
    given: dict[str, Any] = {
        "name": "x",
        "stage": "sft",
        "model": str(model),
        "data": {"train": ["x"]},
        "output_dir": "out",
    }
    return imports.unneeded(msgspec.convert(given | changes, TrainConfig), deepspeed=True)


@pytest.mark.parametrize(
    ("changes", "kept_out"),
    [
        ({}, ["peft", "bitsandbytes", "wandb"]),
        ({"lora": {"r": 2}}, ["bitsandbytes", "wandb"]),
        ({"lora": {"r": 2}, "quantization": "4bit"}, ["wandb"]),
        ({"train": {"optim": "paged_adamw_8bit"}}, ["peft", "wandb"]),
        ({"train": {"optim": "adamw_torch_fused"}}, ["peft", "bitsandbytes", "wandb"]),
        ({"stage": "safe_dpo"}, ["wandb"]),  # so may its reward models
    ],
)
def test_what_is_kept_out(workplace: Path, changes: dict[str, Any], kept_out: list[str]) -> None:
    assert unneeded(workplace / "model", **changes) == kept_out


@pytest.mark.parametrize(
    ("report_to", "kept_out"),
    [(None, True), ("none", True), (["tensorboard"], True), ("wandb", False), (["wandb"], False), ("all", False)],
)
def test_wandb_is_kept_out_unless_asked_for(report_to: Any, kept_out: bool) -> None:
    assert ("wandb" in unneeded(Path("m"), train={"report_to": report_to})) is kept_out


def test_every_optimizer_of_bitsandbytes_is_known() -> None:
    trainer_optimizer: Any = import_module("transformers.trainer_optimizer")
    names = [str(name.value) for name in trainer_optimizer._BITSANDBYTES_OPTIMIZERS]
    assert names
    assert [name for name in names if not imports._BITSANDBYTES_OPTIMIZER.search(name)] == []


def test_models_that_need_more(tmp_path: Path) -> None:
    assert unneeded(Path("owner/name")) == ["peft", "wandb"]  # its weights may be quantised
    (tmp_path / "adapter_config.json").write_text("{}")
    assert unneeded(tmp_path) == ["wandb"]  # its base may be quantised
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "config.json").write_text('{"quantization_config": {}}')
    assert unneeded(tmp_path) == ["peft", "wandb"]


@pytest.mark.parametrize(
    ("report_to", "needed"), [("all", False), (["all"], False), ("wandb", True), (["tensorboard", "wandb"], True)]
)
def test_all_trackers_are_those_that_are_installed(
    report_to: Any, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainConfig(
        name="x", stage="sft", model="m", data=Data(train=["t"]), output_dir="out", train={"report_to": report_to}
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(UserError, match="has no wandb") if needed else contextlib.nullcontext():
        entrypoint._require(job, deepspeed=False)
