"""QLoRA in real runs: the base is quantised, the adapter and a score head are not, and a merge has neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.train import export
from alignlaunch.train.config import Lora
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner
from tests.train.outputs.test_merge import logits
from tests.train.outputs.test_trained import alignlaunch

from .test_model import load

peft = pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")
LORA = {"r": 4, "alpha": 8, "dropout": 0.0}
DATA = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}


def run(run_job: Runner, name: str, **changes: Any) -> Finished:
    found = run_job(name, **({"lora": LORA, "quantization": "4bit"} | changes))
    assert found.code == 0, found.stdout + found.stderr
    return found


@pytest.mark.parametrize("quantization", ["4bit", matrix("8bit")])
def test_an_adapter_is_learnt_evaluated_and_merged(
    quantization: str, run_job: Runner, workplace: Path, tmp_path: Path
) -> None:
    found = run(run_job, f"q-sft-{quantization}", quantization=quantization, data=DATA)
    done = alignlaunch(workplace, "eval", found.output_dir, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["loss"] == pytest.approx(found.logged("eval_loss")[-1], abs=1e-5)
    assert {weight.dtype for weight in load_file(found.output_dir / "adapter_model.safetensors").values()} == {
        torch.float32
    }

    export.export(found.output_dir, tmp_path / "whole", merge_it=True)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert not getattr(whole.config, "quantization_config", None)
    base = AutoModelForCausalLM.from_pretrained(workplace / "model")
    before = logits(base, workplace / "model")
    adapted = logits(peft.PeftModel.from_pretrained(base, found.output_dir), workplace / "model")
    assert (adapted - before).abs().max() > 0.01
    torch.testing.assert_close(logits(whole, workplace / "model"), adapted, atol=1e-5, rtol=0)


def test_a_score_head_is_trained_and_not_quantised(run_job: Runner, workplace: Path) -> None:
    scorer: Any = AutoModelForSequenceClassification.from_pretrained(workplace / "model", num_labels=1)
    scorer.config.pad_token_id = 1
    scorer.save_pretrained(workplace / "q-scorer")
    AutoTokenizer.from_pretrained(workplace / "model").save_pretrained(workplace / "q-scorer")
    found = run(run_job, "q-rm", stage="rm", model="q-scorer")
    saved = load_file(found.output_dir / "adapter_model.safetensors")
    (head,) = (weight for name, weight in saved.items() if "score" in name)
    assert (head.shape, head.dtype) == (scorer.score.weight.shape, torch.float32)
    assert 1e-3 < float((head - scorer.score.weight.data).abs().max()) < 0.1, "4 steps of 0.01"


def test_evaluation_computes_as_training_does_on_every_processor(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On processors with avx512_bf16 (said to be here), bitsandbytes would repack the weights in another precision."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    network = load(workplace, lora=Lora(), quantization="4bit")
    trained = network.train()(torch.tensor([[5, 6, 7]])).logits
    assert torch.equal(network.eval()(torch.tensor([[5, 6, 7]])).logits, trained)


@pytest.mark.parametrize(
    ("stage", "nproc", "changes"),
    [
        matrix("dpo", 1, {}),
        matrix("orpo", 1, {}),
        matrix("sft", 2, {}),
        matrix("rm", 2, {"quantization": "8bit"}),
        matrix("sft", 1, {"lora": LORA | {"dora": True}}),
        matrix("sft", 1, {"train": {"optim": "adamw_8bit"}, "quantization": "none"}),
        matrix("sft", 1, {"train": {"optim": "paged_adamw_8bit"}}),
    ],
)
def test_they_run(stage: str, nproc: int, changes: dict[str, Any], run_job: Runner) -> None:
    found = run(run_job, f"q-{stage}-{nproc}-{len(str(changes))}", stage=stage, nproc=nproc, **changes)
    saved = load_file(found.output_dir / "adapter_model.safetensors")
    assert all(weight.isfinite().all() for weight in saved.values())
    assert any(weight.abs().max() > 1e-3 for name, weight in saved.items() if "lora_B" in name), "nothing was learnt"
