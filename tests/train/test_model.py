"""Loading the tokenizer and the model, and what is said when that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoTokenizer

from alignlaunch.train import adapter, model, orpo
from alignlaunch.train.config import TrainConfig
from alignlaunch.train.encoding import FALLBACK_CHAT_TEMPLATE
from alignlaunch.train.errors import UserError


def job(workplace: Path, **changes: Any) -> TrainConfig:
    given = {
        "name": "x",
        "stage": "orpo",
        "model": str(workplace / "model"),
        "data": {"train": ["x"]},
        "output_dir": "out",
    }
    return msgspec.convert(given | changes, TrainConfig)


def load(workplace: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The model of a job as the entrypoint loads it."""
    wanted = job(workplace, **changes)
    args = orpo.Config(output_dir="out", use_cpu=True, report_to="none", **(train or {}))
    network = model.load_model(wanted, args, model.load_tokenizer(wanted), "bf16")
    return adapter.add(network, adapter.configure(wanted.lora, network, head="lm"), args) if wanted.lora else network


def trainable(network: Any) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_full_fine_tuning_keeps_fp32_masters_and_lora_a_frozen_base_in_the_training_precision(workplace: Path) -> None:
    assert {p.dtype for p in load(workplace).parameters()} == {torch.float32}
    adapted = load(workplace, lora={"r": 2})
    assert {p.dtype for n, p in adapted.named_parameters() if "lora" not in n} == {torch.bfloat16}
    assert {p.dtype for n, p in adapted.named_parameters() if "lora" in n} == {torch.float32}
    overridden = load(workplace, train={"model_init_kwargs": {"dtype": "float16"}})
    assert {p.dtype for p in overridden.parameters()} == {torch.float16}


def test_lora_on_all_linear_layers_leaves_the_head_out(workplace: Path) -> None:
    names = trainable(load(workplace, lora={"r": 2}))
    touched = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names}
    assert touched == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_larger_tokenizer_grows_the_embeddings(workplace: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    tokenizer.add_tokens(["<new1>", "<new2>"])
    tokenizer.save_pretrained(tmp_path)
    grown = load(workplace, tokenizer=str(tmp_path))
    assert grown.get_input_embeddings().num_embeddings == len(tokenizer)


def test_pad_token_and_chat_template_are_ensured(workplace: Path, tmp_path: Path) -> None:
    bare = AutoTokenizer.from_pretrained(workplace / "model")
    bare.pad_token, bare.chat_template = None, None
    bare.save_pretrained(tmp_path)
    tokenizer = model.load_tokenizer(job(workplace, tokenizer=str(tmp_path)))
    assert tokenizer.pad_token == tokenizer.eos_token
    assert tokenizer.chat_template == FALLBACK_CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "../absent"}, "model: ../absent: no tokenizer could be loaded: there is no such folder"),
        ({"tokenizer": "./absent"}, "tokenizer: ./absent: no tokenizer"),
        (
            {"lora": {"target_modules": "q_proj, w"}},
            "lora.target_modules: the model has no module w; its linear layers",
        ),
        ({"quantization": "4bit"}, "quantization: 4bit without lora"),
        ({"quantization": "8bit", "lora": {}}, "quantization: 8bit needs bitsandbytes"),
        ({"attn_implementation": "quick"}, "no model could be loaded"),
    ],
)
def test_what_cannot_be(workplace: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError) as error:
        load(workplace, **changes)
    assert says in str(error.value)
