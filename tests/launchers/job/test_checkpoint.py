"""`checkpoint`: the job's words for the trainer's, and a second tier that is saved into more often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile

JOB = "name: a\nstage: sft\nmodel: org/model\ndata: {train: [org/data]}\noutput_dir: /shared/out\n"


def resolved(folder: Path, text: str) -> dict[str, Any]:
    (folder / "job.yaml").write_text(JOB + text)
    return jobfile.load(folder / "job.yaml").resolved()


def test_every_and_keep_are_the_trainers(tmp_path: Path) -> None:
    found = resolved(tmp_path, "checkpoint: {every: 100, keep: 3, local: /scratch, local_every: 50}")
    assert (found["train"]["save_steps"], found["train"]["save_total_limit"]) == (100, 3)
    assert found["checkpoint"] == {"every": 100, "keep": 3, "local": "/scratch", "local_every": 50}
    assert resolved(tmp_path, "")["checkpoint"] is None


@pytest.mark.parametrize("stage", range(4))
def test_a_second_tier_is_for_each_zero_stage(tmp_path: Path, stage: int) -> None:
    found = resolved(tmp_path, f"checkpoint: {{local: /s, local_every: 50}}\nzero: {stage}")
    assert found["checkpoint"]["local"] == "/s"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("checkpoint: {every: 5}\ntrain: {save_steps: 5}", "checkpoint.every = 5: says the same as train.save_steps"),
        ("checkpoint: {keep: 5}\ntrain: {save_total_limit: 5}", "says the same as train.save_total_limit"),
        ("checkpoint: {every: 5}\ntrain: {save_strategy: epoch}", "train.save_strategy is epoch"),
        ("checkpoint: {local: /scratch}", "means nothing without `local_every`"),
        ("checkpoint: {local_every: 5}", "checkpoint.local_every = 5: means nothing without `local`"),
        ("checkpoint: {local: /scratch, local_every: 60}", "every 500 steps, which is no multiple of it"),
        ("checkpoint: {every: 50, local: /scratch, local_every: 50}", "every 50 steps, which is no multiple of it"),
        ("checkpoint: {local: scratch, local_every: 50}", "not beside the job file"),
        ("checkpoint: {local: /shared/out/a, local_every: 50}", "lies in the output folder (/shared/out)"),
        ("checkpoint: {local: /s, local_every: 50}\ntrain: {save_only_model: true}", "cannot be resumed"),
        ("checkpoint: {every: 0}", "checkpoint.every"),
        ("checkpoint: {every: ten}", "checkpoint.every"),
        ("checkpoint: {evry: 1}", "did you mean `every`"),
        ("checkpoint: 5", "checkpoint: "),
    ],
)
def test_what_contradicts_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(JobFileError) as error:
        resolved(tmp_path, text)
    assert told in str(error.value)


def test_a_relative_output_folder_is_beside_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job file is named as a person names it: from its folder."""
    monkeypatch.chdir(tmp_path)
    job = JOB.replace("output_dir: /shared/out\n", "zero: 0\ncheckpoint: {local: LOCAL, local_every: 50}\n")
    Path("job.yaml").write_text(job.replace("LOCAL", "/scratch"))
    found = jobfile.load(Path("job.yaml")).resolved()
    assert (found["checkpoint"]["local"], found["output_dir"]) == ("/scratch", "output/a")
    Path("job.yaml").write_text(job.replace("LOCAL", f"{tmp_path}/output/a/local"))
    with pytest.raises(JobFileError, match="lies in the output folder"):
        jobfile.load(Path("job.yaml"))
