"""Adapters merged into their base, by themselves and where a job starts from one; exported folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.train import export, trained_folder
from alignlaunch.train.errors import UserError
from alignlaunch.train.outputs import merge
from tests.train.conftest import ROOT, Runner

LORA = {"r": 4, "alpha": 64, "dropout": 0.0, "target_modules": "q_proj,v_proj,down_proj"}
peft = pytest.importorskip("peft")


def logits(model: Any, tokenizer_place: Path) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(tokenizer_place)("the capital of France is", return_tensors="pt")
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**ids).logits.float()
    return found


def save_adapter(base: Any, folder: Path, **config: Any) -> Any:
    """An adapter with weights that do something, as a run leaves it; its base named by a relative path."""
    torch.manual_seed(1)
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=64, **config))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def adapter(workplace: Path, tmp_path: Path) -> Path:
    """A causal adapter on `workplace/model`, trained from `workplace`."""
    folder = tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(workplace / "model")
    base.name_or_path = "model"
    save_adapter(base, folder, task_type="CAUSAL_LM", target_modules="all-linear")
    (folder / "provenance.json").write_text(json.dumps({"working_dir": str(workplace), "job": "name: x"}))
    return folder


def test_the_merged_model_computes_what_base_and_adapter_do(workplace: Path, adapter: Path, tmp_path: Path) -> None:
    assert trained_folder.kind(adapter) == "adapter"
    merge.merge_adapter(adapter, tmp_path / "whole")
    base = AutoModelForCausalLM.from_pretrained(workplace / "model")
    before = logits(base, workplace / "model")
    adapted = logits(peft.PeftModel.from_pretrained(base, adapter), workplace / "model")
    whole = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "whole"), tmp_path / "whole")
    assert (adapted - before).abs().max() > 0.1
    torch.testing.assert_close(whole, adapted, atol=1e-5, rtol=0)

    assert trained_folder.kind(tmp_path / "whole") == "model"
    about = json.loads((tmp_path / "whole" / "provenance.json").read_text())
    assert about["job"] == "name: x"
    assert about["export"]["from"] == str(adapter)
    assert about["export"]["merged_into"] == str(workplace / "model")
    assert not list((tmp_path / "whole").glob("adapter_*"))
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "whole" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_bf16_base_stays_bf16(workplace: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(workplace / "model", dtype=torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(workplace / "model").save_pretrained(tmp_path / "base")
    base.name_or_path = str(tmp_path / "base")
    save_adapter(base, tmp_path / "adapter", task_type="CAUSAL_LM", target_modules="all-linear")
    merge.merge_adapter(tmp_path / "adapter", tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert whole.dtype == torch.bfloat16
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = peft.PeftModel.from_pretrained(again, tmp_path / "adapter")
    torch.testing.assert_close(
        logits(whole, tmp_path / "whole"), logits(adapted, tmp_path / "base"), atol=0.1, rtol=0.05
    )
    assert (tmp_path / "whole" / "tokenizer.json").is_file()  # the adapter had none; the base's


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_of_a_quantised_base_is_merged_into_the_original(workplace: Path, tmp_path: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig
    base = AutoModelForCausalLM.from_pretrained(
        workplace / "model", quantization_config=make(**{f"load_in_{bits}bit": True}), device_map={"": "cpu"}
    )
    save_adapter(base, tmp_path / "adapter", task_type="CAUSAL_LM", target_modules="all-linear")
    merge.merge_adapter(tmp_path / "adapter", tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert not getattr(whole.config, "quantization_config", None)
    original = AutoModelForCausalLM.from_pretrained(workplace / "model")
    adapted = peft.PeftModel.from_pretrained(original, tmp_path / "adapter")
    torch.testing.assert_close(
        logits(whole, workplace / "model"), logits(adapted, workplace / "model"), atol=1e-5, rtol=0
    )


def test_a_reward_models_head_comes_along(workplace: Path, tmp_path: Path) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(workplace / "model", num_labels=1)
    keep = {"modules_to_save": ["score"], "target_modules": "all-linear"}
    model = save_adapter(base, tmp_path / "adapter", task_type="SEQ_CLS", **keep)
    expected = logits(model, workplace / "model")
    merge.merge_adapter(tmp_path / "adapter", tmp_path / "whole")
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole")
    assert whole.config.num_labels == 1
    assert whole.config.pad_token_id is not None
    torch.testing.assert_close(logits(whole, workplace / "model"), expected, atol=1e-5, rtol=0)


def test_embeddings_grown_for_the_tokenizer(workplace: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(workplace / "model")
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    tokenizer.add_tokens(["<new1>", "<new2>"])
    base.resize_token_embeddings(len(tokenizer))
    model = save_adapter(base, tmp_path / "adapter", task_type="CAUSAL_LM", target_modules="all-linear")
    tokenizer.save_pretrained(tmp_path / "adapter")
    expected = logits(model, tmp_path / "adapter")
    merge.merge_adapter(tmp_path / "adapter", tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(whole, tmp_path / "whole"), expected, atol=1e-5, rtol=0)


def test_an_adapter_on_an_adapter(adapter: Path, tmp_path: Path) -> None:
    """Its base is merged first, beside it; the second time it is found."""
    first = merge.merged(adapter)
    assert first.parent == adapter.parent
    assert first.name.startswith("adapter-merged-")
    stamp = first.stat().st_mtime_ns
    assert merge.merged(adapter) == first
    base = AutoModelForCausalLM.from_pretrained(first)
    save_adapter(base, tmp_path / "second", task_type="CAUSAL_LM", target_modules=["q_proj"])
    about = merge.merge_adapter(tmp_path / "second", tmp_path / "whole", base=str(adapter))
    assert about["export"]["merged_into"] == str(first)
    assert first.stat().st_mtime_ns == stamp

    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1}))
    assert merge.merged(adapter) != first


def test_what_cannot_be(workplace: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with pytest.raises(UserError, match="taken: exists already"):
        merge.merge_adapter(adapter, tmp_path / "taken")
    with pytest.raises(UserError, match="no weights in it, and no complete checkpoint"):
        export.export(tmp_path / "taken", tmp_path / "new", merge_it=True)
    with pytest.raises(UserError, match="absent: no such folder"):
        export.export(tmp_path / "absent", tmp_path / "new", merge_it=True)
    with pytest.raises(UserError, match=r"cannot be written: (Not a directory|File exists)"):
        merge.merge_adapter(adapter, tmp_path / "taken" / "x" / "new")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "../gone"}))
    with pytest.raises(UserError, match=r"\.\./gone: no such folder(.|\n)*--base DIR"):
        merge.merge_adapter(adapter, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "taken"]  # nothing half-made stays
    merge.merge_adapter(adapter, tmp_path / "new", base=str(workplace / "model"))
    assert trained_folder.kind(tmp_path / "new") == "model"


def exported(workplace: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "alignlaunch.train.export", *map(str, arguments)]
    return subprocess.run(command, cwd=workplace.parent, env=env, capture_output=True, text=True, check=False)


@pytest.mark.matrix
def test_a_zero_3_lora_run_and_orpo_on_its_output(run_job: Runner, workplace: Path, tmp_path: Path) -> None:
    sft = run_job("merge-sft", nproc=2, zero="zero3.json", lora=LORA)
    assert sft.code == 0, sft.stderr
    done = exported(workplace, sft.output_dir, tmp_path / "whole", "--merge")
    assert done.returncode == 0, done.stderr
    base = AutoModelForCausalLM.from_pretrained(workplace / "model")
    before = logits(base, workplace / "model")
    adapted = logits(peft.PeftModel.from_pretrained(base, sft.output_dir), workplace / "model")
    whole = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "whole"), tmp_path / "whole")
    assert (adapted - before).abs().max() > 0.01
    torch.testing.assert_close(whole, adapted, atol=1e-5, rtol=0)

    # A chain: the next stage takes the adapter's folder for its model.
    orpo = run_job("merge-orpo", nproc=2, zero="zero3.json", stage="orpo", model="out/merge-sft", lora=LORA)
    assert orpo.code == 0, orpo.stderr
    (start,) = sft.output_dir.parent.glob("merge-sft-merged-*")
    assert f"starting from {start}, merged" in orpo.stdout
    alone = run_job("merge-orpo-direct", nproc=2, zero="zero3.json", stage="orpo", model=str(start), lora=LORA)
    assert orpo.logged("loss") == alone.logged("loss")
    config = json.loads((orpo.output_dir / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(start)

    shutil.rmtree(sft.output_dir)
    lost = run_job("merge-lost", stage="orpo", model="out/merge-sft")
    assert lost.code == 2
    assert "model: out/merge-sft" in lost.stderr


def test_a_base_that_is_gone_ends_every_process_with_one_message(run_job: Runner, adapter: Path) -> None:
    (adapter / "provenance.json").unlink()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "../gone"}))
    found = run_job("merge-gone", nproc=2, model=str(adapter))
    assert found.code == 1  # torchrun's own
    assert found.stderr.count("error: model: ") == 1
    assert "../gone: no such folder" in found.stderr
    assert "Traceback" not in found.stderr.partition("torch/distributed/")[0]


@pytest.mark.matrix
def test_shards_alone_become_a_model(run_job: Runner, workplace: Path, tmp_path: Path) -> None:
    config = json.loads((workplace / "zero3.json").read_text())
    whole = run_job("whole", nproc=2, zero="zero3.json")
    assert whole.code == 0, whole.stderr
    config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = False
    (workplace / "zero3-shards.json").write_text(json.dumps(config))
    shards = run_job("shards", nproc=2, zero="zero3-shards.json")
    assert shards.code == 0, shards.stderr
    assert trained_folder.kind(shards.output_dir) == "shards"
    assert export.export(shards.output_dir, tmp_path / "joined", merge_it=False).endswith(str(shards.output_dir))
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "joined"), tmp_path / "joined"),
        logits(AutoModelForCausalLM.from_pretrained(whole.output_dir), whole.output_dir),
        atol=1e-5,
        rtol=0,
    )
    assert not list((tmp_path / "joined").glob("global_step*"))

    copied = exported(workplace, whole.output_dir, tmp_path / "copied")
    assert copied.returncode == 0, copied.stderr
    name = "model.safetensors"
    assert (tmp_path / "copied" / name).read_bytes() == (whole.output_dir / name).read_bytes()
    assert not (tmp_path / "copied" / "metrics.jsonl").exists()
    again = exported(workplace, whole.output_dir, tmp_path / "copied")
    assert (again.returncode, "exists already" in again.stderr, "Traceback" in again.stderr) == (2, True, False)
