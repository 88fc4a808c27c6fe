"""`${STEP.best(METRIC).output}`: the best point of a step that is a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import pipeline

FILE = """name: align
jobs:
  sft:
    stage: sft
    model: org/m
    data: {{train: [org/d], validation: [org/e]}}
    sweep: {{over: {{train.learning_rate: [1e-5, 2e-5]}}, max_parallel: 1}}
  dpo: {{stage: dpo, model: '{model}', data: {{train: [org/p]}}}}
"""


def load(folder: Path, model: str, *overrides: str) -> pipeline.Pipeline:
    (folder / "p.yaml").write_text(FILE.format(model=model))
    return pipeline.load(folder / "p.yaml", overrides)


def test_the_step_waits_for_every_point_and_its_model_is_a_link(tmp_path: Path) -> None:
    found = load(tmp_path, "${sft.best(eval_loss).output}")
    assert list(found.jobs) == ["sft/lr1e-5", "sft/lr2e-5", "dpo"]
    assert found.needs["dpo"] == ["sft/lr1e-5", "sft/lr2e-5"]
    assert found.required("dpo") == [], "the best of those that there are"
    assert found.sweeps == {"sft": ["sft/lr1e-5", "sft/lr2e-5"]}
    dpo = found.jobs["dpo"]
    assert dpo.spec.model == "output/align-sft.best-eval_loss"
    assert dpo.resolved()["choices"] == [
        {
            "link": "output/align-sft.best-eval_loss",
            "metric": "eval_loss",
            "among": ["output/align-sft+lr1e-5", "output/align-sft+lr2e-5"],
        }
    ]
    assert found.jobs["sft/lr1e-5"].folder("slurm") == "launch/align-sft/slurm/lr1e-5"
    assert "choices" not in found.jobs["sft/lr1e-5"].resolved()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("${sft.output}", "a sweep has an output for each point"),
        ("${sft.best(entropy).output}", "nobody can say whether entropy should be high or low"),
        ("${sft.best(eval_loss)}", "a sweep has an output for each point"),
        ("${sfd.best(eval_loss).output}", "no such step"),
        ("${dpo.best(eval_loss).output}", "a step cannot wait for itself"),
    ],
)
def test_references_that_do_not_fit(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(JobFileError, match="problem") as caught:
        load(tmp_path, model)
    assert said in str(caught.value)


def test_a_step_that_is_no_sweep_has_no_best(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: p\njobs:\n  a: {stage: sft, model: org/m, data: {train: [org/d]}}\n"
        "  b: {stage: dpo, model: '${a.best(loss).output}', data: {train: [org/d]}}\n"
    )
    with pytest.raises(JobFileError, match=r"this step is no sweep"):
        pipeline.load(tmp_path / "p.yaml")


def test_a_variant_of_the_sweep_makes_one_of_what_is_behind_it(tmp_path: Path) -> None:
    found = load(tmp_path, "${sft.best(eval_loss).output}", "sft.train.seed=7")
    assert found.jobs["sft/lr1e-5"].spec.output_dir == "output/align-sft+seed7-lr1e-5"
    assert found.jobs["dpo"].varies
    assert all(job.varies for job in found.jobs.values())
