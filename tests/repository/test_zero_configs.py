"""The ZeRO files: every key is known to the installed DeepSpeed and explained in the README."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "zero_configs"
FILES = sorted(FOLDER.glob("*.json"))
# transformers fills these in, from the training arguments or from the model's hidden size. DeepSpeed silently drops any
# other "auto" and takes its own default.
AUTO = {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16.enabled",
    "fp16.enabled",
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.stage3_prefetch_bucket_size",
    "zero_optimization.stage3_param_persistence_threshold",
}

# The only stage that shards parameters.
STAGE_3 = 3

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def leaves(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The config as {"a.b.c": value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix + key
        flat.update(leaves(value, name + ".") if isinstance(value, dict) else {name: value})
    return flat


def names(model: Any) -> set[str]:
    """The keys that a DeepSpeed pydantic model accepts, deprecated ones left out."""
    return {
        name
        for field, info in model.model_fields.items()
        if not (info.json_schema_extra or {}).get("deprecated")
        for name in (field, info.alias)
        if name
    }


@pytest.fixture(scope="module")
def known_keys() -> set[str]:
    """Every key DeepSpeed knows in the sections we use. Its top level has no pydantic model, only constants."""
    constants = import_module("deepspeed.runtime.constants")
    precision = import_module("deepspeed.runtime.precision_config")
    zero = import_module("deepspeed.runtime.zero.config")
    offload = import_module("deepspeed.runtime.zero.offload_config")
    top = {
        constants.TRAIN_BATCH_SIZE,
        constants.TRAIN_MICRO_BATCH_SIZE_PER_GPU,
        constants.GRADIENT_ACCUMULATION_STEPS,
        constants.GRADIENT_CLIPPING,
    }
    sections = {
        precision.BFLOAT16: precision.DeepSpeedBF16Config,
        precision.FP16: precision.DeepSpeedFP16Config,
        zero.ZERO_OPTIMIZATION: zero.DeepSpeedZeroConfig,
        f"{zero.ZERO_OPTIMIZATION}.offload_optimizer": offload.DeepSpeedZeroOffloadOptimizerConfig,
        f"{zero.ZERO_OPTIMIZATION}.offload_param": offload.DeepSpeedZeroOffloadParamConfig,
    }
    return top | {f"{section}.{name}" for section, model in sections.items() for name in names(model)}


def test_the_set_of_files() -> None:
    assert [path.name for path in FILES] == [
        "zero1.json",
        "zero1_offload.json",
        "zero2.json",
        "zero2_offload.json",
        "zero3.json",
        "zero3_offload_all.json",
        "zero3_offload_nvme.json",
        "zero3_offload_optimizer.json",
    ]


@every_file
def test_keys_are_known_to_deepspeed(path: Path, known_keys: set[str]) -> None:
    assert leaves(load(path)).keys() - known_keys == set()


@every_file
def test_values_are_valid_for_deepspeed(path: Path) -> None:
    zero = import_module("deepspeed.runtime.zero.config")
    section = load(path)["zero_optimization"]
    parsed = zero.DeepSpeedZeroConfig(**section)
    for key, value in section.items():
        if not isinstance(value, dict) and value != "auto":
            assert getattr(parsed, key.removeprefix("stage3_")) == value, key


@every_file
def test_stage_and_offload_are_those_of_the_name(path: Path) -> None:
    name = re.fullmatch(r"zero([123])(_offload(?:_(?:optimizer|all|nvme))?)?", path.stem)
    assert name
    section = load(path)["zero_optimization"]
    assert section["stage"] == int(name[1])
    expected = {
        None: {},
        "_offload": {"offload_optimizer": "cpu"},
        "_offload_optimizer": {"offload_optimizer": "cpu"},
        "_offload_all": {"offload_optimizer": "cpu", "offload_param": "cpu"},
        "_offload_nvme": {"offload_optimizer": "nvme", "offload_param": "nvme"},
    }[name[2]]
    assert {key: value["device"] for key, value in section.items() if isinstance(value, dict)} == expected
    # DeepSpeed accepts the key below stage 3 and does nothing.
    assert "offload_param" not in section or section["stage"] == STAGE_3


@every_file
def test_nothing_overrides_the_training_arguments(path: Path) -> None:
    config = load(path)
    assert not {"optimizer", "scheduler"} & config.keys()
    flat = leaves(config)
    assert {key for key, value in flat.items() if value == "auto"} <= AUTO
    assert all(flat[key] == "auto" for key in AUTO if not key.startswith("zero_optimization."))


@every_file
def test_stage_3_saves_whole_models(path: Path) -> None:
    section = load(path)["zero_optimization"]
    if section["stage"] == STAGE_3:
        assert section["stage3_gather_16bit_weights_on_model_save"] is True


@every_file
def test_numbers_are_integers(path: Path) -> None:
    assert not [key for key, value in leaves(load(path)).items() if isinstance(value, float)]


def test_readme_explains_every_key_and_file() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    first_column = re.findall(r"^\| `([^`]+)` \|", readme, flags=re.MULTILINE)
    assert len(first_column) == len(set(first_column))
    used = {key for path in FILES for key in leaves(load(path))}
    assert set(first_column) == used | {path.name for path in FILES}
