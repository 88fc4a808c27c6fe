"""Whatever values stand in a job file or a cluster profile, it loads or there is a JobFileError."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import defaults, jobfile
from alignlaunch.launchers.job.cluster import Cluster
from alignlaunch.launchers.job.spec import JobSpec
from alignlaunch.launchers.render import render

from .job_files import profile, write

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63, max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="ab1 .,'\"${}é\n%-", max_size=5),
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "1", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = [field.name for field in msgspec.structs.fields(JobSpec)]


def nested(keys: list[str]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys), trees, max_size=4)


maps = st.one_of(
    trees,
    nested(["train", "validation", "max_train_samples", "validation_share", "columns"]),
    st.fixed_dictionaries({"train": st.lists(nested(["path", "weight", "columns"]) | scalars, max_size=3)}),
    nested(["r", "alpha", "dropout", "target_modules"]),
    nested(["partition", "extra", "requeue", "mem"]),
    nested(
        [
            "learning_rate",
            "warmup_ratio",
            "train_file_dir",
            "use_peft",
            "lora_rank",
            "max_source_length",
            "max_target_length",
            "load_in_8bit",
            "deepspeed",
            "eval_strategy",
            "accelerator_config",
            "max_steps",
        ]
    ),
)


@given(st.dictionaries(st.sampled_from(KEYS), maps, max_size=6), st.sampled_from(sorted(defaults.STAGES)))
def test_any_values_at_all_are_a_job_or_a_job_file_error(values: dict[str, Any], stage: str) -> None:
    base: dict[str, Any] = {"name": "tiny", "stage": stage, "model": "m", "data": {"train": ["d"]}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(json.dumps(base | values))
        try:
            loaded = jobfile.load(path)
        except JobFileError as error:
            assert all(p.rule and p.remedy for p in error.problems)
        else:
            for target in render.TARGETS:
                if target not in loaded.refused:
                    render.render(loaded, target, "job.yaml")


@given(nested([field.name for field in msgspec.structs.fields(Cluster)]))
def test_any_profile_at_all_is_one_or_a_job_file_error(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder))
        profile(path.parent / "clusters", **values)
        try:
            jobfile.load(path, (), "lab")
        except JobFileError as error:
            assert error.problems
