"""`alignlaunch export` and `alignlaunch eval` on what real runs left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status
from tests.train.conftest import ROOT, Finished, Runner

LORA = {"r": 4, "alpha": 64, "dropout": 0.0, "target_modules": "q_proj,v_proj"}
DATA = {"train": ["pairs.jsonl"], "validation": ["pairs_eval.jsonl"], "cache_dir": "cache"}


@pytest.fixture(scope="module")
def adapter(run_job: Runner) -> Finished:
    """An ORPO run under LoRA, evaluated at its end."""
    found = run_job("trained-adapter", stage="orpo", lora=LORA, data=DATA)
    assert found.code == 0, found.stderr
    return found


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def alignlaunch(folder: Path, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    full = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | env
    command = [sys.executable, "-m", "alignlaunch.launchers.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True, check=False)


def remember(found: Finished, name: str) -> None:
    """Record a run as a submission does."""
    records.save(
        [Run(f"local://{name}-1", name, "", "", output_dir=str(found.output_dir), status=Status("COMPLETED", 0))]
    )


def assert_same_evaluation(run: Finished, evaluated: dict[str, Any]) -> None:
    """What `alignlaunch eval --json` gave is what training gave at its end, and says it in eval.json."""
    assert evaluated == json.loads((run.output_dir / "eval.json").read_text())
    trained = [record for record in run.records() if "eval_loss" in record][-1]
    expected = {name.removeprefix("eval_"): value for name, value in trained.items() if name.startswith("eval_")}
    figures = evaluated["metrics"]
    assert expected.keys() <= figures.keys()
    of_the_run = {"runtime", "samples_per_second", "steps_per_second", "num_tokens"}  # TRL's: those trained on so far
    for name in expected.keys() - of_the_run:
        assert figures[name] == pytest.approx(expected[name], abs=1e-5), name


@pytest.mark.usefixtures("record")
def test_eval_gives_what_training_gave_at_its_end(adapter: Finished, tmp_path: Path) -> None:
    remember(adapter, "adapter")
    done = alignlaunch(tmp_path, "eval", "adapter", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert_same_evaluation(adapter, found)
    assert {"loss", "rewards/accuracies", "nll_loss"} <= found["metrics"].keys()
    assert found["examples"] == 7


@pytest.mark.matrix
@pytest.mark.usefixtures("record")
def test_a_merged_export_evaluates_alike_and_other_data_differently(adapter: Finished, tmp_path: Path) -> None:
    before = alignlaunch(tmp_path, "eval", adapter.output_dir, "--json")
    assert before.returncode == 0, before.stderr
    exported = alignlaunch(tmp_path, "export", adapter.output_dir, "--merge", "-o", "whole")
    assert (exported.returncode, exported.stdout) == (0, "whole\n"), exported.stderr
    AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    after = alignlaunch(tmp_path, "eval", "whole", "--json")
    assert after.returncode == 0, after.stderr
    losses = [json.loads(done.stdout)["metrics"]["loss"] for done in (before, after)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)

    (tmp_path / "other.jsonl").write_text('{"prompt": "Paris", "chosen": " is good", "rejected": " ends"}\n')
    other = alignlaunch(tmp_path, "eval", "whole", "--data", "other.jsonl")
    assert other.returncode == 0, other.stderr
    lines = dict(line.split() for line in other.stdout.splitlines())
    assert float(lines["loss"]) != pytest.approx(losses[0], abs=1e-3)
    assert json.loads((tmp_path / "whole" / "eval.json").read_text())["examples"] == 1


@pytest.mark.usefixtures("record")
def test_a_full_fine_tune_is_evaluated_and_copied(run_job: Runner, tmp_path: Path) -> None:
    data = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
    found = run_job("trained-full", data=data)
    assert found.code == 0, found.stderr
    remember(found, "full")
    done = alignlaunch(tmp_path, "eval", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["loss"] == pytest.approx(found.logged("eval_loss")[-1], abs=1e-5)
    exported = alignlaunch(tmp_path, "export", "full")
    assert exported.stdout == f"{found.output_dir}-exported\n", exported.stderr
    assert Path(exported.stdout.strip(), "model.safetensors").is_file()


@pytest.mark.usefixtures("record")
def test_mistakes(adapter: Finished, workplace: Path, tmp_path: Path) -> None:
    remember(Finished(0, "", "", tmp_path / "gone"), "gone")
    for arguments, code, says in (
        (("export", "no-such"), 2, "no run of a job or pipeline named 'no-such' is recorded"),
        (("eval", "gone"), 2, f"no output in {tmp_path / 'gone'}"),
        (("eval", workplace / "model"), 2, "no provenance.json that names its job"),
        (("export", tmp_path), 2, "no weights in it, and no complete checkpoint"),
        (("eval", adapter.output_dir, "--data", "../absent.jsonl"), 2, "data.validation: ../absent.jsonl: no such"),
    ):
        done = alignlaunch(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert says in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("record")
def test_a_python_without_the_training_side(adapter: Finished, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['transformers'] = None\n")
    path = f"{tmp_path}:{ROOT / 'src'}"
    done = alignlaunch(tmp_path, "export", adapter.output_dir, "--merge", "-o", "new", PYTHONPATH=path)
    assert done.returncode == 2
    assert "ALIGNLAUNCH_PYTHON names another" in done.stderr
    assert "Traceback" not in done.stderr
