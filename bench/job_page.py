"""docs/job-file.md: every key, from the JSON Schemas. `python -m bench.job_page --write docs/job-file.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from alignlaunch.launchers.job import defaults, jsonschema
from alignlaunch.launchers.job.rules import trainer_args
from alignlaunch.train.config import Stage

from . import made_page

Schema = dict[str, Any]
BY_STAGE = "by stage"
WORDS = {"string": "text", "boolean": "`true` or `false`", "null": "null", "object": "map"}
STAGES: tuple[Stage, ...] = get_args(Stage)

HEAD = """<!-- Made by `make job-page`. Do not edit. -->
# Job file, pipeline file, cluster profile: every key

A job file says what is trained, on what, and how many nodes and processes it takes. Three keys are required: `stage`,
`model` and `data`. Where the file is silent, the stage's defaults apply ([defaults.md](defaults.md)); the job is named
after its file. `alignlaunch init STAGE` writes a starter file that shows them all. Paths are relative to the job file.

```yaml file=job.yaml
name: my-sft
stage: sft
model: ../model/Qwen/Qwen3-0.6B
data: {train: [../data/sft], validation_share: 0.05}
nproc_per_node: 8
train: {learning_rate: 1e-5}
```

`--set KEY=VALUE` overrides a key for one command. Mistakes are reported all at once, each with a remedy, and nothing is
written:

```console
$ alignlaunch render job.yaml --set train.learning_rte=2e-5 --set nnodes=many
alignlaunch: error: --set train.learning_rte=2e-5: train.learning_rte: not an argument of the sft trainer's config
    remedy: did you mean `learning_rate`?
--set nnodes=many: nnodes = 'many': a number, or MIN:MAX
    remedy: for example `nnodes: 2`
2 problems; nothing was written or submitted
```

An editor that knows the schema completes and checks the file while you type. The first line of a starter file names it:

```console
$ alignlaunch schema > alignlaunch.schema.json
$ alignlaunch init sft | head -1
# yaml-language-server: $schema=alignlaunch.schema.json
```

The tables below come from the same schemas (`alignlaunch schema job`, `pipeline`, `cluster`). **Required** keys are
marked. "by stage": [the stage's default](defaults.md). `k8s`, `slurm` and `env` may stand in a job file and in a
cluster profile. The job's keys win; of `slurm.extra` both lists are used."""

BATCH = """
### train.effective_batch_size

The examples of one optimizer step over all processes, in the place of `per_device_train_batch_size` (the micro-batch)
and `gradient_accumulation_steps`: micro-batch x accumulation x processes is exactly it, on however many nodes, or the
job is refused with the nearest numbers that can be shared evenly. An elastic job has it on the most nodes.

- With a cluster profile that says how much memory a GPU has (`gpu_memory_gib`), [the planner](plan.md) takes the
  largest micro-batch that leaves a tenth of it free. A job that gives neither `zero` nor `offload` also gets the
  strategy: without offload if that fits, with 4,096 tokens in a pass if that fits, then what moves least in a step.
- Without such a profile, or where the model's config.json cannot be read, the micro-batch is the stage's default as
  far as it divides what each process gets.
- With one of the two keys beside it, the other one follows. With both it is refused.

A note and a comment in the resolved job say what was chosen and why. The same job, profile and model give the same
files; where one of them changed, `alignlaunch check` shows what would run now. A later step of a pipeline is planned
with the model that its chain starts from. The memory is planned and not measured: `alignlaunch plan` shows what counts.

```yaml file=batch.yaml
name: batch
stage: sft
model: ./model
data: {train: [../data/sft]}
nproc_per_node: 8
lora: null
train: {effective_batch_size: 64, max_length: 16384}
```

```yaml file=clusters/h100.yaml
gpu_memory_gib: 80
```

```json file=model/config.json
{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
 "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": false}
```

```console
$ alignlaunch render batch.yaml --cluster h100 --target slurm 2> /dev/null
launch/batch/slurm
$ grep -E "Batch|train_batch|accumulation|zero:" launch/batch/slurm/job.resolved.yaml
# Batch of a step: micro-batch 2 x accumulation 4 x 8 processes = 64: the largest that leaves a tenth of 80 GiB free ...
zero: 1
  gradient_accumulation_steps: 4
  per_device_train_batch_size: 2
```"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    job, pipeline, cluster = (json.loads(jsonschema.text(kind)) for kind in ("job", "pipeline", "cluster"))
    yield HEAD
    yield "\n## Job file"
    yield from _section(job, "JobSpec", filled=_filled("") | {"output_dir": "`output/NAME`", "name": "the file's name"})
    yield "\n### data"
    yield from _section(job, "Data", filled=_filled("data."))
    yield "\n### An entry of data.train or data.validation"
    yield from _section(job, "Source")
    yield "\n### lora"
    yield from _section(job, "Lora", filled=_filled("lora."))
    yield "\n### checkpoint"
    yield from _section(job, "Checkpoint")
    yield "\n### notify"
    yield from _section(job, "Notify")
    yield "\n### train"
    yield from _arguments()
    yield BATCH
    yield "\n## slurm"
    yield from _section(job, "Slurm")
    yield "\n## k8s\n\n[kubernetes.md](kubernetes.md) explains them with examples."
    yield from _section(job, "K8s")
    for name in ("Volume", "Nfs", "SecretKey", "Toleration", "SecurityContext"):
        yield f"\n### {name}"
        yield from _section(job, name)
    yield "\n## Pipeline file\n\nSee [pipelines.md](pipelines.md)."
    yield from _section(pipeline, "PipelineSpec")
    yield "\nA step has two keys of its own. All its other keys are those of a job file."
    step = pipeline["$defs"]["Step"]["properties"]
    yield from _table({key: step[key] for key in ("job", "after")}, required=[], filled={})
    yield "\n## Cluster profile\n\nSee [slurm.md](slurm.md) and [kubernetes.md](kubernetes.md)."
    yield from _section(cluster, "Cluster")
    yield "\n### container"
    yield from _section(cluster, "Container")


def _filled(section: str) -> dict[str, str]:
    """Key of a section of the job file → what is filled in where the file is silent."""
    found: dict[str, set[str]] = {}
    for stage in STAGES:
        for default in defaults.for_stage(stage):
            if default.key.startswith(section):
                key, _, inner = default.key.removeprefix(section).partition(".")
                found.setdefault(key, set()).add(BY_STAGE if inner else f"`{json.dumps(default.value)}`")
        for key in found.keys() - {default.key.removeprefix(section) for default in defaults.for_stage(stage)}:
            found[key].add(BY_STAGE)
    return {key: values.pop() if len(values) == 1 else BY_STAGE for key, values in found.items()}


def _section(schema: Schema, name: str, filled: dict[str, str] | None = None) -> Iterator[str]:
    definition = schema["$defs"][name]
    yield from _table(definition["properties"], definition.get("required", []), filled or {})


def _table(properties: Schema, required: list[str], filled: dict[str, str]) -> list[str]:
    rows = []
    for key in sorted(properties, key=lambda key: (key not in required, key)):
        schema = properties[key]
        default = "**required**" if key in required else filled.get(key) or _default(schema)
        value = kind(schema) if default else kind(schema).removesuffix(" or null")
        rows.append((f"`{key}`", value, default, _meaning(schema)))
    return made_page.table(("key", "value", "default", "meaning"), rows)


def _default(schema: Schema) -> str:
    value = schema.get("default")
    # A nested struct's default repeats the defaults of its own table.
    return "" if value is None or value in ({}, []) or "$ref" in schema else f"`{json.dumps(value)}`"


def _meaning(schema: Schema) -> str:
    examples = [f"`{json.dumps(example)}`" for example in schema.get("examples", [])[:1]]
    said = schema.get("description") or next(filter(None, map(_meaning, schema.get("anyOf", []))), "")
    return " ".join([said, *(f"Example: {example}." for example in examples)]).strip()


def kind(schema: Schema) -> str:
    """What a value may be, in words."""
    match schema:
        case {"$ref": place}:
            words = f"map: {place.rpartition('/')[2]}"
        case {"anyOf": parts}:
            words = " or ".join(dict.fromkeys(map(kind, parts)))
        case {"enum": values}:
            words = ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            words = f"`{json.dumps(value)}`"
        case {"type": "array", "items": items}:
            words = f"list of {kind(items)}"
        case {"type": "object", "additionalProperties": values}:
            words = f"map of {kind(values)}"
        case {"type": "integer" | "number" as number}:
            bounds = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
            words = " ".join([number, *(f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema)])
        case _:
            words = WORDS.get(schema.get("type", ""), "any")
    return words


def _arguments() -> Iterator[str]:
    stages: dict[str, dict[str, Any]] = trainer_args()["stages"]
    common = set.intersection(*(set(arguments) for arguments in stages.values()))
    yield (
        "\nArguments of the stage's trainer config, under their names in transformers and TRL. A name that the stage's "
        "trainer does not have is refused before anything is submitted. Old names still work where they are known: see "
        "[coming-from-your-own-scripts.md](coming-from-your-own-scripts.md).\n\nEvery stage has:"
    )
    yield f"\n{_names(stages[STAGES[0]], common)}"
    for stage in STAGES:
        yield f"\n`{stage}` also has:\n\n{_names(stages[stage], set(stages[stage]) - common)}"


def _names(arguments: dict[str, Any], names: set[str]) -> str:
    return ", ".join(f"`{name}` ({_argument(arguments[name])})" for name in sorted(names)) + "."


def _argument(spec: dict[str, Any]) -> str:
    choices = spec.get("choices")
    return " or ".join(f"`{choice}`" for choice in choices) if choices else spec["type"].replace("|", " or ")


if __name__ == "__main__":
    made_page.main(__doc__, page)
