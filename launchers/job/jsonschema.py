"""The JSON Schema of job files, pipeline files and cluster profiles, generated from the classes that validate them."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from alignlaunch.train.config import Stage

from . import batch, defaults
from .cluster import Cluster
from .pipeline_spec import PipelineSpec, StepSpec
from .rules import trainer_args
from .spec import JobSpec

Kind = Literal["job", "pipeline", "cluster"]

_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "list": "array", "dict": "object"}


def text(kind: Kind) -> str:
    """The schema as JSON with sorted keys, so that a copy in git changes only when the schema does."""
    made = {"job": _job, "pipeline": _pipeline, "cluster": _cluster}[kind]()
    titled = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"alignlaunch {kind}", **made}
    schema = json.dumps(titled, indent=2, sort_keys=True)
    return schema.replace("\\\\Z", "$")  # end of text: `\Z` in Python, `$` in JSON Schema's JavaScript patterns


def _cluster() -> dict[str, Any]:
    return msgspec.json.schema(Cluster)


def _pipeline() -> dict[str, Any]:
    """A step is a whole job, or names a job file and overrides some of its keys."""
    schema, of_job = msgspec.json.schema(PipelineSpec), _job()
    own = msgspec.json.schema(StepSpec)["$defs"]["StepSpec"]["properties"]
    step = of_job["$defs"].pop("JobSpec")
    step["properties"] |= own
    step["anyOf"] = [{"required": ["job"]}, {"required": step.pop("required")}]
    schema["$defs"] |= of_job["$defs"] | {"Step": step}
    schema["$defs"]["PipelineSpec"]["properties"]["jobs"]["additionalProperties"] = {"$ref": "#/$defs/Step"}
    return schema


def _job() -> dict[str, Any]:
    schema = msgspec.json.schema(JobSpec)
    definitions = schema["$defs"]
    job = definitions["JobSpec"]
    # The stage's defaults fill in the rest; the name is the file's. The documents' comma-separated lists and
    # `lora: false` are also valid.
    job["required"] = ["stage", "model", "data"]
    sources = definitions["Data"]["properties"]
    for key in ("train", "validation"):
        sources[key] = {"anyOf": [sources[key], {"type": "string"}], "description": sources[key].get("description", "")}
    job["properties"]["lora"].setdefault("anyOf", []).append({"const": False})
    job["allOf"] = []
    for stage, arguments in trainer_args()["stages"].items():
        of_stage = _stage_defaults(stage)
        filled = of_stage.pop("train")["properties"]
        definitions[f"train_{stage}"] = {
            "type": "object",
            "properties": {
                name: _argument(spec) | filled.get(name, {}) for name, spec in (arguments | batch.ARGUMENT).items()
            },
        }
        job["allOf"].append(
            {
                "if": {"properties": {"stage": {"const": stage}}, "required": ["stage"]},
                "then": {"properties": of_stage | {"train": {"$ref": f"#/$defs/train_{stage}"}}},
            }
        )
    return schema


def _stage_defaults(stage: Stage) -> dict[str, Any]:
    """The stage's defaults as the schema's `properties`: {key: {"default": value}}, nested for data, lora and train."""
    properties: dict[str, Any] = {}
    for default in defaults.for_stage(stage):
        section, _, key = default.key.rpartition(".")
        keys = properties.setdefault(section, {"properties": {}})["properties"] if section else properties
        keys[key] = {"default": default.value}
    return properties


def _argument(spec: dict[str, Any]) -> dict[str, Any]:
    words = spec["type"].split("|")
    if "any" in words:
        return {}
    types = [_TYPES[word] for word in words] + (["null"] if spec.get("optional") else [])
    schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    if "choices" in spec:
        schema["enum"] = [*spec["choices"], *([None] if spec.get("optional") else [])]
    return schema
