"""What is said before a submission about paths that are not there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from alignlaunch.launchers.audit.drift import DriftError
from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.backends.slurm import checks as slurm
from alignlaunch.launchers.job import jobfile, pipeline
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.submit import checks, steps
from tests.conftest import MINIMAL
from tests.support.hostile import as_yaml
from tests.support.manifests import KEYS


@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        ((), {"helpful", "harmless"}),
        (("train.objective=modpo",), {"harmless"}),
        (("train.objective=dpo",), set()),
        (("train.objective=dpo", "train.eval_generate=8"), {"helpful", "harmless"}),
        (("train.harmless_reward_model=.",), {"helpful"}),
    ],
)
def test_the_reward_models_that_the_objective_reads(
    tmp_path: Path, overrides: tuple[str, ...], missing: set[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL)
    named = ("train.helpful_reward_model=a/rm", "train.harmless_reward_model=b/rm")
    keys = [key for key, _ in checks.missing_paths(jobfile.load(path, ("stage=safe_dpo", *named, *overrides)))]
    assert {key for key in keys if "reward" in key} == {f"train.{name}_reward_model" for name in missing}


def test_a_job_for_kubernetes_is_prepared_without_a_look_at_this_machine(tmp_path: Path) -> None:
    """Its paths are a volume's, its secrets the cluster's. The folder is audited as any other."""
    k8s = {"secrets": {"ABSENT": {"name": "a"}}, "volumes": {"out": {"pvc": "out", "mount_path": "/out"}}}
    (tmp_path / "job.yaml").write_text(
        as_yaml({**KEYS, "model": "/out/model", "secrets": ["ABSENT"], "k8s": {"image": "a:1", **k8s}})
    )
    loaded, backend = pipeline.load(tmp_path / "job.yaml"), registry.of("k8s")
    said: list[str] = []
    rendered = steps.render(loaded, backend)
    steps.check(loaded, rendered, backend, said.append)
    agree = partial(steps.write, loaded, rendered, accept=False, dry=False, say=said.append)
    agree(committed=False)
    (one,) = rendered.values()
    assert said == [f"wrote {one.folder} (commit it for the audit)"]
    assert {path.name: path.read_text() for path in one.folder.iterdir()} == one.files
    with pytest.raises(DriftError, match="is in no git repository"):
        agree(committed=True)
    (one.folder / "job.pytorchjob.yaml").write_text("kind: PyTorchJob\n")
    with pytest.raises(DriftError, match="accept it with --write"):
        agree(committed=False)


def test_a_run_of_a_cluster_that_is_gone_stops_no_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "job.yaml").write_text(MINIMAL)
    loaded, backend = pipeline.load(tmp_path / "job.yaml"), registry.of("local")
    folder = str(tmp_path / "output/tiny")
    records.save([Run("k8s://gone/lab/a", "a", "", "", output_dir=folder, status=Status("RUNNING"))])
    said: list[str] = []
    wanted = checks.Wanted(data=False, memory=False)
    steps.check(loaded, steps.render(loaded, backend), backend, said.append, wanted)
    assert "cannot find out whether an earlier run still writes there" in said[-1]


@pytest.mark.parametrize(("time", "warned"), [("5:00", True), ("4:59", True), ("5:01", False), ("0", False)])
def test_a_time_in_which_no_warning_can_come_is_told(
    job_file: Path, monkeypatch: pytest.MonkeyPatch, time: str, warned: bool
) -> None:
    monkeypatch.setenv("PATH", "")  # no Slurm here: what it has is not the question
    loaded = jobfile.load(job_file, (f'time="{time}"',))
    said = [doubt for doubt in slurm.check(loaded) if "signal_seconds" in doubt]
    assert (
        said
        == [
            f"time: {time} is not longer than slurm.signal_seconds (300 s): "
            "the time limit ends the run without a checkpoint"
        ]
        * warned
    )
