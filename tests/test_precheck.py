"""What is said before a submission about paths that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers import job, precheck

from .conftest import MINIMAL


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
    keys = [key for key, _ in precheck.missing_paths(job.load(path, ("stage=safe_dpo", *overrides)))]
    assert {key for key in keys if "reward" in key} == {f"train.{name}_reward_model" for name in missing}
