"""Check a user's own DeepSpeed JSON: its keys must be ones that DeepSpeed reads, its values must agree with the job.

DeepSpeed ignores unknown top-level keys. transformers refuses a value that disagrees with the training arguments only
after the GPUs are allocated, and some disagreements are resolved silently. All of these are reported here.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from ..errors import JobFileError, Problem
from ..paths import PACKAGE
from ..zero import ZeroConfig
from . import yamlfile
from .schema import unknown_key
from .yamlfile import Document, Path_, dotted

GATHER = "stage3_gather_16bit_weights_on_model_save"
AUTO = "auto"
#: What a checkpoint on the nodes' own disks (`checkpoint.local`) cannot be saved or loaded with, and why.
NOT_ON_NODES: dict[tuple[str, ...], str] = {
    ("zero_optimization", "elastic_checkpoint"): "each process would read the files of all, and a node has its own",
    ("zero_optimization", "offload_optimizer", "device"): "a state on NVMe has not been tried there",
}
#: DeepSpeed's writers of checkpoints that may go on after it has said that all is saved.
_LATE_WRITERS = [("checkpoint", "writer"), ("datastates_ckpt",)]


@cache
def known_keys() -> dict[str, Any]:
    """The shipped list of keys that DeepSpeed reads (made by `train/arguments/deepspeed_keys.py`)."""
    data: dict[str, Any] = json.loads(
        (PACKAGE / "train" / "arguments" / "deepspeed_keys.json").read_text(encoding="utf-8")
    )
    return data


def check(name: str, zero: ZeroConfig, job: dict[str, Any]) -> list[Problem]:
    """Every problem in the DeepSpeed JSON `zero` from the file `name`. job: its data with all defaults filled in."""
    try:
        document = yamlfile.parse(zero.text, name)  # JSON is YAML, and this parser records places
    except JobFileError as error:
        return error.problems
    found = _keys(document) + _batch(document, job) + _precision(document, job) + _blocks(document)
    found += _offload(document, zero.stage) + _gather(document, zero.stage, job)
    return found + _late_writers(document) + _nodes(document, job)


def _keys(document: Document) -> list[Problem]:
    """Keys that DeepSpeed does not read, at the top level and in the sections with a fixed list of keys."""
    sections: dict[str, list[str]] = known_keys()["sections"]
    replaced: dict[str, str] = known_keys()["replaced"]
    problems = []
    for section, known in sections.items():
        at: Path_ = tuple(section.split(".")) if section else ()
        for key in _section(document, at):
            path = (*at, key)
            if new := replaced.get(dotted(path)):
                rule, remedy = "an older DeepSpeed's key", f"write {new} in its place"
                problems.append(Problem(document.key_place(path), dotted(path), None, rule, remedy))
            elif key not in known:
                problem = unknown_key(document, path, known)
                near = problem.remedy if problem.remedy.startswith("did you mean") else "remove it"
                problems.append(problem._replace(rule="not a key that DeepSpeed reads", remedy=near))
    return problems


def _batch(document: Document, job: dict[str, Any]) -> list[Problem]:
    """Batch sizes, accumulation and clipping must be those of the job's `train:`."""
    train = _train(job)
    micro, accumulation = train.get("per_device_train_batch_size", 8), train.get("gradient_accumulation_steps", 1)
    sizes = (micro, accumulation, job.get("nnodes"), job.get("nproc_per_node"))
    if not all(type(size) is int and size > 0 for size in sizes):
        return []  # reported as a problem of the job file
    total, clipping = micro * accumulation * sizes[2] * sizes[3], train.get("max_grad_norm", 1.0)
    problems = [
        *_differing(document, ("train_micro_batch_size_per_gpu",), micro, "train.per_device_train_batch_size"),
        *_differing(document, ("gradient_accumulation_steps",), accumulation, "train.gradient_accumulation_steps"),
        *_differing(document, ("train_batch_size",), total, "the job's batch × accumulation × processes"),
        *_differing(document, ("gradient_clipping",), clipping, "train.max_grad_norm"),
    ]
    missing = []
    if accumulation > 1 and "gradient_accumulation_steps" not in document.data:
        missing.append(("gradient_accumulation_steps", f"without it DeepSpeed uses 1, but the job's is {accumulation}"))
    if clipping and "gradient_clipping" not in document.data:
        missing.append(
            ("gradient_clipping", f"without it gradients are not clipped, but train.max_grad_norm is {clipping}")
        )
    if not {"train_batch_size", "train_micro_batch_size_per_gpu"} & document.data.keys():
        missing.append(("train_micro_batch_size_per_gpu", "DeepSpeed needs it (or train_batch_size)"))
    return problems + [Problem(document.name, key, None, rule, f'add `"{key}": "auto"`') for key, rule in missing]


def _precision(document: Document, job: dict[str, Any]) -> list[Problem]:
    train = _train(job)
    fp16 = train.get("fp16") is True
    bf16 = not fp16 and train.get("bf16") is not False  # bf16 is the default
    return [
        *_differing(document, ("bf16", "enabled"), bf16, "train.bf16"),
        *_differing(document, ("fp16", "enabled"), fp16, "train.fp16"),
    ]


def _differing(document: Document, path: tuple[str, ...], expected: Any, source: str) -> list[Problem]:
    """A problem if the value is neither "auto" nor the job's."""
    section = _section(document, path[:-1])
    value = section.get(path[-1], AUTO)
    if value in (AUTO, expected):
        return []
    rule = f"disagrees with the job: {source} gives {json.dumps(expected)}"
    return [Problem(document.place(path), dotted(path), value, rule, f'write "auto": {source} fills it in')]


def _blocks(document: Document) -> list[Problem]:
    """Blocks that would override the job's training arguments."""
    overridden = {
        "optimizer": "train.optim, learning_rate and weight_decay",
        "scheduler": "train.lr_scheduler_type and warmup_steps",
    }
    return [
        Problem(document.key_place((key,)), key, None, f"overrides {arguments}", "remove it; these arguments decide")
        for key, arguments in overridden.items()
        if key in document.data
    ]


def _offload(document: Document, stage: int) -> list[Problem]:
    path: Path_ = ("zero_optimization", "offload_param")
    device = _section(document, path).get("device", "none")
    if stage == 3 or device == "none":
        return []
    rule = f"ZeRO-{stage} does not shard parameters, and DeepSpeed offloads only sharded ones"
    return [Problem(document.key_place(path), dotted(path), device, rule, "remove it, or set stage 3")]


def _gather(document: Document, stage: int, job: dict[str, Any]) -> list[Problem]:
    """A full fine-tune at stage 3 must choose whether to save gathered weights: to DeepSpeed, "auto" or none is false.

    With LoRA the adapter is always gathered.
    """
    path: Path_ = ("zero_optimization", GATHER)
    value = _section(document, path[:1]).get(GATHER, AUTO)
    if stage != 3 or job.get("lora") is not None or value != AUTO:
        return []
    rule = "counts as false: the output would hold ZeRO shards only, and no model that can be loaded"
    remedy = "write true (or false, and convert the shards with `alignlaunch export` later)"
    written = value if GATHER in _section(document, path[:1]) else None
    return [Problem(document.place(path), dotted(path), written, rule, remedy)]


def _late_writers(document: Document) -> list[Problem]:
    """A checkpoint is committed, with digests of its files, once DeepSpeed says that it is saved."""
    rule = "DeepSpeed would write files of a checkpoint after it was committed"
    return [
        Problem(document.key_place(path), dotted(path), value, rule, f"remove `{dotted(path)}`")
        for path in _LATE_WRITERS
        if (value := _section(document, path[:-1]).get(path[-1]))
    ]


def _nodes(document: Document, job: dict[str, Any]) -> list[Problem]:
    """With a second tier of checkpoints each node reads and writes its own part."""
    keys = job.get("checkpoint")
    if not isinstance(keys, dict) or keys.get("local") is None:
        return []
    problems = []
    for path, why in NOT_ON_NODES.items():
        value = _section(document, path[:-1]).get(path[-1])
        if value and value not in ("none", "cpu"):
            rule, remedy = f"not with checkpoint.local: {why}", "remove one of the two"
            problems.append(Problem(document.key_place(path), dotted(path), value, rule, remedy))
    return problems


def _train(job: dict[str, Any]) -> dict[str, Any]:
    train = job.get("train")
    return train if isinstance(train, dict) else {}


def _section(document: Document, path: Path_) -> dict[str, Any]:
    """The object at `path`; empty if there is none."""
    found: Any = document.data
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
