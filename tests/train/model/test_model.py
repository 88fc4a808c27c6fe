"""Loading the tokenizer and the model, and what is said when that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM, PhiConfig, PhiForCausalLM

from alignlaunch.train.config import Lora, TrainConfig
from alignlaunch.train.data.encoding.chat_template import FALLBACK_CHAT_TEMPLATE
from alignlaunch.train.errors import UserError
from alignlaunch.train.model import adapter, loading, vocabulary
from alignlaunch.train.stages import orpo


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
    tokenizer = loading.load_tokenizer(wanted)
    network = loading.load_model(wanted, args, tokenizer, "bf16")
    new_tokens = vocabulary.grow(network, len(tokenizer))
    if wanted.lora is None:
        return network
    return adapter.add(network, adapter.configure(wanted.lora, network, new_tokens, head="lm"), args)


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


def test_the_dropout_that_fused_experts_cannot_have_is_told() -> None:
    """PEFT's own word for it is a ValueError that names none of the job's keys."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = MixtralConfig(vocab_size=32, num_key_value_heads=2, num_local_experts=2, **sizes)
    network = MixtralForCausalLM(config)
    args = orpo.Config(output_dir="out", use_cpu=True, report_to="none")
    no_rows = range(0)
    with pytest.raises(UserError, match=r"lora.dropout: 0.05: the experts \(model.layers.0.mlp.experts\)"):
        adapter.configure(Lora(), network, no_rows, head="lm")
    chosen = Lora(target_modules="q_proj")
    assert adapter.configure(chosen, network, no_rows, head="lm").lora_dropout == 0.05
    whole = adapter.add(network, adapter.configure(Lora(dropout=0), network, no_rows, head="lm"), args)
    tokens = torch.arange(8).reshape(1, 8)
    whole(input_ids=tokens, labels=tokens).loss.backward()
    assert any("experts" in name for name in trainable(whole))


@pytest.fixture
def larger(workplace: Path, tmp_path: Path) -> str:
    """A tokenizer with two tokens more than the model."""
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    tokenizer.add_tokens(["<new1>", "<new2>"])
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_larger_tokenizer_grows_the_embeddings_and_their_new_rows_are_trained(workplace: Path, larger: str) -> None:
    grown = load(workplace, tokenizer=larger)
    assert grown.get_input_embeddings().num_embeddings == len(AutoTokenizer.from_pretrained(larger))
    adapted = load(workplace, tokenizer=larger, lora={"r": 2})
    rows = {name: p for name, p in adapted.named_parameters() if p.requires_grad and "lora" not in name}
    assert [tuple(p.shape) for p in rows.values()] == 2 * [(2, 32)]
    assert {p.dtype for p in rows.values()} == {torch.float32}, "over a bf16 base"


def test_new_rows_that_cannot_be_trained_are_refused(workplace: Path, larger: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"target_modules: lm_head: the tokenizer has 2 tokens more(.|\n)*Leave it out"):
        load(workplace, tokenizer=larger, lora={"target_modules": "q_proj,lm_head"})
    config = PhiConfig(
        vocab_size=50, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, pad_token_id=0
    )
    PhiForCausalLM(config).save_pretrained(tmp_path / "phi")
    with pytest.raises(UserError, match=r"output head has a bias(.|\n)*lora: null"):
        load(workplace, model=str(tmp_path / "phi"), tokenizer=larger, lora={})


def test_pad_token_and_chat_template_are_ensured(workplace: Path, tmp_path: Path) -> None:
    bare = AutoTokenizer.from_pretrained(workplace / "model")
    bare.pad_token, bare.chat_template = None, None
    bare.save_pretrained(tmp_path)
    tokenizer = loading.load_tokenizer(job(workplace, tokenizer=str(tmp_path)))
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
