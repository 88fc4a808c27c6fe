"""The keys of a pipeline file."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from alignlaunch.train.config import NonEmptyStr

from .spec import Name


class PipelineSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pipeline file's keys."""

    name: Name
    jobs: Annotated[
        dict[str, Any],
        Meta(min_length=1, description="The steps of the pipeline, by name.", examples=[{"sft": {"job": "sft.yaml"}}]),
    ]


class StepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A step's own keys. All other keys are the job's: they override its job file, or are the whole job without one."""

    job: Annotated[
        NonEmptyStr,
        Meta(
            description="Job file of the step, relative to the pipeline file. Without it the "
            "step's keys are the whole job.",
            examples=["sft.yaml"],
        ),
    ] = ""
    after: Annotated[
        list[NonEmptyStr],
        Meta(
            description="Names of steps that must succeed before this one starts, besides those whose output it uses.",
            examples=[["sft"]],
        ),
    ] = []
