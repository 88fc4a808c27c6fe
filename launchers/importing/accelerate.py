"""accelerate's options, its config file, and the ones that TRL has names for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import JobFileError
from ..job import yamlfile
from . import counts
from .arguments import of_map, off, plain
from .found import Found, Given, beside

#: `trl ... --accelerate_config NAME` (trl/accelerate_configs): what each of them says.
_OF_TRL: dict[str, dict[str, Any]] = {
    "single_gpu": {"num_processes": 1},
    "multi_gpu": {"num_processes": 8},
    **{f"zero{stage}": {"num_processes": 8, "zero_stage": stage, "mixed_precision": "bf16"} for stage in (1, 2, 3)},
    **{f"fsdp{version}": {"num_processes": 8, "use_fsdp": True, "mixed_precision": "bf16"} for version in (1, 2)},
}
_NOT_NEEDED = ("compute_environment", "distributed_type", "downcast_bf16", "zero3_save_16bit_model", "use_cpu_")


def options(found: Found, given: list[Given], source: Path) -> list[Given]:
    """The options with those of a config file among them in front, as accelerate reads them."""
    rest: list[Given] = []
    before: list[Given] = []
    for one in given:
        if plain(one) == "config_file":
            before += _read(found, one, source)
        elif plain(one) == "accelerate_config" and str(one.value) in _OF_TRL:
            named = _OF_TRL[str(one.value)]
            before += [
                Given(f"{one.value}: {key}", value, one.line)._replace(name=key, file=f"trl's {one.value}")
                for key, value in named.items()
            ]
            found.drop(one, "read: trl's own file")
        elif plain(one) == "accelerate_config":
            before += _read(found, one, source)
        else:
            rest.append(one)
    said = {plain(one) for one in rest}
    for one in before:
        if plain(one) in said:
            found.drop(one, "given on the command line, which wins")
    return [*(one for one in before if plain(one) not in said), *rest]


def _read(found: Found, given: Given, source: Path) -> list[Given]:
    try:
        document = yamlfile.read(beside(source, str(given.value)))
    except JobFileError:
        found.refuse(given, "accelerate's file is not here: import again where it is")
        return []
    found.drop(given, "read")
    flat = of_map(document.data, document, str(given.value))
    for section in ("deepspeed_config", "fsdp_config", "parallelism_config"):
        inner = document.data.get(section)
        flat = [one for one in flat if one.name != section]
        if isinstance(inner, dict):
            flat += [Given(key, value, 0, (), str(given.value)) for key, value in inner.items()]
    kept = []
    for one in flat:
        if one.name == "distributed_type" and str(one.value) not in ("DEEPSPEED", "MULTI_GPU", "NO"):
            found.refuse(one, "alignlaunch trains with DDP or DeepSpeed; `zero: 3` shards as FSDP's FULL_SHARD does")
        elif one.name in _NOT_NEEDED or off(one.value):
            found.drop(one, "off, as here" if off(one.value) else "alignlaunch decides it")
        else:
            kept.append(one)
    return kept


def translate(found: Found, options: dict[str, Given], known: dict[str, str]) -> None:
    """Take accelerate's own options out of `options`; those of `known` are left.

    It counts the processes of all nodes together.
    """
    machines, processes = options.pop("num_machines", None), options.pop("num_processes", None)
    if machines is not None:
        counts.put(found, "nnodes", machines)
    if processes is not None:
        _processes(found, processes)
    for name in [name for name in options if name not in known and name not in ("max_restarts", "num_nodes")]:
        given = options.pop(name)
        if name == "mixed_precision":
            _precision(found, given)
        elif name in _NUMBERS:
            _number(found, _NUMBERS[name], given)
        elif off(given.value):
            found.drop(given, "off, as here")
        elif name in ("cpu", "use_cpu"):
            found.profile("device", "cpu", given)
        elif name == "num_cpu_threads_per_process":
            found.put("env.OMP_NUM_THREADS", str(given.value), given)
        elif name == "gpu_ids":
            found.drop(given, "GPUs are not chosen by number here")
        elif name.startswith(("fsdp", "use_fsdp", "parallelism", "use_parallelism")):
            found.refuse(given, "of FSDP; `zero: 3` shards as its FULL_SHARD does")
        else:
            found.refuse(given, "an option of accelerate that a job file does not have")


_NUMBERS = {
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "gradient_clipping": "train.max_grad_norm",
}


def _processes(found: Found, given: Given) -> None:
    total, nodes = counts.whole(given), found.job["nnodes"].value if "nnodes" in found.job else 1
    if total is None or not isinstance(nodes, int):
        counts.put(found, "nproc_per_node", given)
    elif total % nodes:
        each = max(total // nodes, 1)
        found.put("nproc_per_node", each, given, guess=f"{total} processes do not divide by {nodes} nodes")
    else:
        found.put("nproc_per_node", total // nodes, given, f"{total} on {nodes} node{'s' * (nodes > 1)}")


def _number(found: Found, key: str, given: Given) -> None:
    try:
        number = float(str(given.value))
    except ValueError:
        found.drop(given, "the trainer's own argument decides it") if given.value == "auto" else found.refuse(
            given, "a number is expected"
        )
        return
    found.put(key, int(number) if key.endswith("steps") and number.is_integer() else number, given)


def _precision(found: Found, given: Given) -> None:
    if str(given.value) not in ("bf16", "fp16", "no"):
        found.refuse(given, "training is in bf16, fp16 or fp32")
        return
    if str(given.value) == "fp16":
        found.put("train.fp16", True, given)
    found.put("train.bf16", str(given.value) == "bf16", given)
