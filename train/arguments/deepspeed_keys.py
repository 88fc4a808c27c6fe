"""The keys that a DeepSpeed JSON may hold, as data: `deepspeed_keys.json`.

The submitting side checks a user's own JSON with it and needs no DeepSpeed. After an update of DeepSpeed:
    python -m alignlaunch.train.arguments.deepspeed_keys --write
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from . import printed

FILE = Path(__file__).with_suffix(".json")

#: Keys that DeepSpeed reads only once the process group exists, so that `_top_level` does not see them.
READ_LATER = {"sequence_parallel_size"}


def describe() -> dict[str, Any]:
    """The keys that the installed DeepSpeed reads, by section ("": top level), and what replaces deprecated ones."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # no GPU is needed
    precision_config: Any = import_module("deepspeed.runtime.precision_config")
    config: Any = import_module("deepspeed.runtime.zero.config")
    offload_config: Any = import_module("deepspeed.runtime.zero.offload_config")
    zero = config.ZERO_OPTIMIZATION
    models: dict[str, Any] = {
        precision_config.BFLOAT16: precision_config.DeepSpeedBF16Config,
        precision_config.FP16: precision_config.DeepSpeedFP16Config,
        zero: config.DeepSpeedZeroConfig,
        f"{zero}.offload_optimizer": offload_config.DeepSpeedZeroOffloadOptimizerConfig,
        f"{zero}.offload_param": offload_config.DeepSpeedZeroOffloadParamConfig,
    }
    sections = {"": sorted(_top_level() - {precision_config.BFLOAT16_OLD})}
    replaced = {precision_config.BFLOAT16_OLD: precision_config.BFLOAT16}
    for section, model in models.items():
        sections[section] = sorted(_names(model))
        replaced |= {f"{section}.{name}": new for name, new in _deprecated(model).items()}
    return {"replaced": replaced, "sections": sections}


def text() -> str:
    """The file's content: sorted, one key a line, so that a diff shows what an update changed."""
    return json.dumps(describe(), indent=2, sort_keys=True) + "\n"


def _top_level() -> set[str]:
    """Top-level keys. No class lists them, so DeepSpeed parses a configuration that records which keys it looks up."""
    config: Any = import_module("deepspeed.runtime.config")
    asked: set[str] = set()

    class Asked(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            asked.add(str(key))
            return super().__contains__(key)

        def __getitem__(self, key: str) -> Any:
            asked.add(key)
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return super().get(key, default)

        def keys(self) -> Any:
            return self  # so that `in config.keys()` is recorded too

    config.DeepSpeedConfig(Asked(train_batch_size=1))
    refused: set[str] = set(config._REMOVED_TOP_LEVEL_CONFIG_KEYS)
    return (asked | READ_LATER) - refused


def _names(model: Any) -> set[str]:
    """A section's keys, by the names that users write."""
    deprecated = _deprecated(model)
    return {info.alias or name for name, info in model.model_fields.items() if name not in deprecated}


def _deprecated(model: Any) -> dict[str, str]:
    """Deprecated key → its replacement, as users write it."""
    fields = model.model_fields
    notes = {name: info.json_schema_extra or {} for name, info in fields.items()}
    found = {name: note["new_param"] for name, note in notes.items() if note.get("deprecated")}
    return {name: (new in fields and fields[new].alias) or new for name, new in found.items()}


if __name__ == "__main__":
    printed.main(__doc__, FILE, text)
