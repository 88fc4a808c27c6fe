"""The process as a user meets it: results, resuming, messages and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Runner

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "q_proj,v_proj"}


def run_code(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    full = os.environ | {"PYTHONPATH": str(ROOT / "src")} | env
    return subprocess.run([sys.executable, "-c", code], env=full, capture_output=True, text=True, check=False)


def test_lora_adapter_provenance_and_logs(run_job: Runner, workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"git": "abc"}')
    train = {
        "save_strategy": "steps",
        "save_steps": 4,
        "gradient_checkpointing": True,
        "report_to": "tensorboard",
        "bf16": True,
    }
    mark = workplace / "out/lora/.preflight-passed-run-1"  # of pods, left by preflight
    mark.parent.mkdir(parents=True)
    mark.touch()
    env = {"ALIGNLAUNCH_RUN_DIR": str(tmp_path), "ALIGNLAUNCH_RUN_ID": "run-1"}
    found = run_job("lora", stage="orpo", lora=LORA, train=train, zero="zero3.json", env=env)
    assert found.code == 0, found.stderr
    assert not mark.exists(), "the same manifest, applied again, would pass for a pod that comes back"
    assert "bf16 was asked for; there is no GPU here, training in fp32" in found.stdout
    assert "step 4/4 | loss " in found.stdout
    assert "%|" not in found.stderr, "a progress bar in a log file"
    started, *records = found.records()
    assert (started["event"], started["step"], started["max_steps"]) == ("started", 0, 4)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    assert all(r["tokens_per_second"] > 0 for r in records if "loss" in r)
    assert list((found.output_dir / "runs").rglob("events.out.tfevents*"))

    out = found.output_dir
    for weights in (out / "adapter_model.safetensors", out / "checkpoint-4" / "adapter_model.safetensors"):
        mask = os.umask(0)
        os.umask(mask)
        assert weights.stat().st_mode & 0o777 == 0o666 & ~mask
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["run"] == {"git": "abc"}
    assert provenance["versions"]["torch"].startswith("2.")
    assert len(provenance["job_sha256"]) == 64
    assert provenance["deepspeed"]["zero_optimization"]["stage"] == 3

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(workplace / "model")
    ids = AutoTokenizer.from_pretrained(out)("the capital of France", return_tensors="pt")
    before = base(**ids).logits
    adapted = PeftModel.from_pretrained(base, out)
    assert {n.rsplit(".", 1)[-1] for n in adapted.targeted_module_names} == {"q_proj", "v_proj"}
    assert not torch.allclose(before, adapted(**ids).logits, atol=1e-4), "the saved adapter does nothing"


def test_a_restarted_run_goes_on_from_the_last_complete_checkpoint(run_job: Runner) -> None:
    train = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    first = run_job("again", train=train)
    assert first.code == 0, first.stderr
    expected = first.logged("loss")
    (first.output_dir / "checkpoint-4" / "checkpoint-is-incomplete.txt").touch()

    second = run_job("again", train=train, env={"SLURM_RESTART_COUNT": "1"})
    assert second.code == 0, second.stderr
    assert "resuming from out/again/checkpoint-2" in second.stdout
    assert "step 3/4" in second.stdout
    assert "step 2/4" not in second.stdout
    assert second.logged("loss") == expected
    assert [r["step"] for r in second.records() if "event" in r] == [0, 2]


def test_bad_data_ends_all_processes_with_one_message(run_job: Runner, workplace: Path) -> None:
    (workplace / "bad.jsonl").write_text('{"messages": []}\n')
    found = run_job("bad-data", nproc=2, data={"train": ["bad.jsonl"], "cache_dir": "cache"})
    assert found.code == 1  # torchrun's own, whatever its workers say
    assert found.stderr.count("error: bad.jsonl:1: `messages` has no assistant turn: there is nothing to learn.") == 1
    assert "exitcode  : 2" in found.stderr
    assert "session.py" not in found.stderr, "a traceback of ours"


def test_weighted_sources_a_share_for_evaluation_and_skipped_records(run_job: Runner, workplace: Path) -> None:
    texts = [{"text": f"the capital of France is Paris {n}"} for n in range(30)]
    (workplace / "good.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts) + "{cut")
    (workplace / "few.txt").write_text("the answer is Paris")
    sources = [{"path": "good.jsonl", "weight": 3}, {"path": "few.txt", "weight": 1}]
    data = {"train": sources, "validation_share": 0.2, "skip_bad_records": True, "cache_dir": "cache"}
    train = {"max_length": 16, "eval_strategy": "steps", "eval_steps": 4}
    found = run_job("mixed", nproc=2, stage="pt", data=data, train=train)
    assert found.code == 0, found.stderr
    assert "; 1 bad records skipped:\n  good.jsonl:31: not JSON" in found.stdout
    records = dict(re.findall(r"data\.(train|validation): (\d+) records", found.stdout))
    learnt = int(records["train"]) - 1  # of good.jsonl
    assert learnt + int(records["validation"]) == 30
    assert f"data.train: {learnt} from the {learnt} sequences of good.jsonl (" in found.stdout
    assert f"data.train: {round(learnt / 3)} from the 1 sequences of few.txt (" in found.stdout
    assert len(found.logged("eval_loss")) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"deepspeed": "absent.json"}, "absent.json: not a readable JSON file"),
        ({"env": {"RANK": "1", "WORLD_SIZE": "2"}}, "RANK=1 is set without LOCAL_RANK"),
        ({"stage": "none"}, "not a job.resolved.yaml"),
        ({"train": {"learning_rat": 1}}, "SFTConfig has no argument learning_rat"),
        ({"train": {"save_strategy": "hourly"}}, "SFTConfig refuses these arguments: hourly is not a valid"),
        ({"output_dir": "pairs.jsonl/out"}, "output_dir: pairs.jsonl/out: Not a directory"),
    ],
)
def test_bad_configuration_is_a_sentence(run_job: Runner, changes: dict[str, Any], says: str) -> None:
    found = run_job("bad", **changes)
    assert found.code == 2, found.stderr
    assert says in found.stderr
    assert "Traceback" not in found.stderr


def test_the_deepspeed_launcher_adds_an_argument() -> None:
    code = (
        "from alignlaunch.train import __main__ as m; "
        "o = m._parser().parse_args(['--local_rank=1', 'job.yaml', '--deepspeed', 'none']); print(o.job, o.deepspeed)"
    )
    assert run_code(code).stdout == "job.yaml none\n"


@pytest.mark.parametrize(
    ("package", "extra", "train"),
    [
        ("torch", "train", {}),
        ("bitsandbytes", "quantization", {"optim": "paged_adamw_8bit"}),
        ("wandb", "wandb", {"report_to": ["wandb"]}),
    ],
)
def test_a_node_without_a_package_is_told_the_remedy(
    package: str, extra: str, train: dict[str, Any], tmp_path: Path, workplace: Path, run_job: Runner
) -> None:
    hide = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hide)
    found = run_job(f"no-{package}", train=train, env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"})
    assert found.code == 2
    assert f"has no {package}" in found.stderr
    assert f"pip install 'alignlaunch[{extra}]'" in found.stderr


def test_a_crash_leaves_its_traceback_and_torchrun_error_file(tmp_path: Path) -> None:
    code = (
        "import torch, sys; from alignlaunch.train import __main__ as m\n"
        "def crash(argv): raise RuntimeError('the disk is gone')\n"
        "m.run = crash; m.main()"
    )
    file = tmp_path / "error.json"
    done = run_code(code, TORCHELASTIC_ERROR_FILE=str(file))
    assert done.returncode == 1
    assert "RuntimeError: the disk is gone" in done.stderr
    assert "the disk is gone" in json.loads(file.read_text())["message"]["message"]


def test_a_worker_dies_with_its_launcher() -> None:
    worker = (
        "import os, time; from alignlaunch.train.processes import rendezvous as r\n"
        "r.die_with_launcher(r.read(os.environ)); print(os.getpid(), flush=True); time.sleep(60)"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "TORCHELASTIC_RUN_ID": "x",
        **dict.fromkeys(("RANK", "LOCAL_RANK"), "0"),
        "WORLD_SIZE": "1",
    }
    parent = subprocess.Popen([sys.executable, "-c", launcher], env=env, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(50):
        if not _runs(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker lived on")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
