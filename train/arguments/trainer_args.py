"""The arguments that `train:` may hold, stage by stage, as data: `trainer_args.json`.

The submitting side validates `train:` with it and needs no torch. After an update of trl or transformers:
    python -m alignlaunch.train.arguments.trainer_args --write
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

from ..data.encoding.encoders import LIMITS
from . import printed

FILE = Path(__file__).with_suffix(".json")

#: Arguments that are set by another key of the job (named here), or that the entrypoint decides (reason in brackets).
OWNED = {
    "output_dir": "output_dir",
    "deepspeed": "zero",
    "hub_token": "secrets: [HF_TOKEN]",
    "fsdp": "zero",
    "fsdp_config": "zero",
    "parallelism_config": "zero",
    "trust_remote_code": "trust_remote_code",
    "local_rank": "nproc_per_node",
    "use_cpu": "(decided by the device)",
    "ddp_backend": "(decided by the device)",
    "disable_tqdm": "(a progress bar is shown on a terminal only)",
    "enable_jit_checkpoint": "(each process would stop at a step of its own; save_steps keeps what was trained)",
    "logging_nan_inf_filter": "(a loss that is not finite ends the run)",
    "batch_eval_metrics": "(evaluation is over all records at once)",
    "eval_do_concat_batches": "(evaluation is over all records at once)",
    "eval_packing": "(records are packed where training cuts them to blocks)",
    "prediction_loss_only": "(evaluation is over all records at once)",
    "include_for_metrics": "(evaluation is over all records at once)",
    "do_train": "stage",
    "do_eval": "data.validation",
    "do_predict": "stage",
    "remove_unused_columns": "(columns are read by the data formats)",
    "label_names": "(columns are read by the data formats)",
    "dataset_text_field": "(columns are read by the data formats)",
    "dataset_kwargs": "(columns are read by the data formats)",
    "completion_only_loss": "(the answers alone are learnt)",
    "assistant_only_loss": "(the answers alone are learnt)",
    "chat_template_path": "tokenizer",
    "eos_token": "tokenizer",
    "pad_token": "tokenizer",
}
#: Arguments that `alignlaunch data` needs without the trainer, so that their defaults are recorded too.
READ = (*LIMITS, "seed")
_WORDS = {int: "int", float: "float", bool: "bool", str: "str", dict: "dict", list: "list"}


def describe() -> dict[str, Any]:
    """The arguments that the installed trainers accept, by stage, and those of OWNED."""
    return {"owned": OWNED, "stages": {name: _arguments(config) for name, config in sorted(_configs().items())}}


def text() -> str:
    """The file's content: sorted, one argument a line, so that a diff shows what an update changed."""
    found = describe()
    stages = [
        f'    "{stage}": {{\n'
        + ",\n".join(f'      "{name}": {json.dumps(spec)}' for name, spec in sorted(arguments.items()))
        + "\n    }"
        for stage, arguments in found["stages"].items()
    ]
    owned = json.dumps(found["owned"], indent=4, sort_keys=True).replace("\n}", "\n  }")
    return f'{{\n  "owned": {owned},\n  "stages": {{\n' + ",\n".join(stages) + "\n  }\n}\n"


def _configs() -> dict[str, Any]:
    from ..data.formats import readers
    from ..stages import registry

    return {stage: registry.load(stage).Config for stage in readers.READERS}


def _arguments(config: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(config)
    return {
        field.name: _type(hints[field.name]) | ({"default": field.default} if field.name in READ else {})
        for field in dataclasses.fields(config)
        if field.init and field.name not in OWNED and not field.name.startswith("_")
    }


def _type(hint: Any) -> dict[str, Any]:
    """A type hint as data: `{"type": "int|float"}`, with `optional` and `choices` where they apply."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = list(typing.get_args(hint)) if is_union else [hint]
    words: set[str] = set()
    choices: set[str] = set()
    for member in members:
        origin = typing.get_origin(member) or member
        if member is type(None):
            continue
        if origin is typing.Literal:
            values = typing.get_args(member)
            words |= {_WORDS.get(type(value), "any") for value in values}
            choices |= {value for value in values if isinstance(value, str)}
        elif isinstance(origin, type) and issubclass(origin, enum.Enum):
            choices |= {str(value.value) for value in origin}
            words.add("str")
        else:
            words.add(_WORDS.get(origin, "any"))
    spec: dict[str, Any] = {"type": "any" if "any" in words else "|".join(sorted(words))}
    if type(None) in members:
        spec["optional"] = True
    if choices:
        spec["choices"] = sorted(choices)
    return spec


if __name__ == "__main__":
    printed.main(__doc__, FILE, text)
