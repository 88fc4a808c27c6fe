"""Pairs that share rows have the log-probabilities, scores and gradients of a forward of both sequences."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from trl.trainer.utils import add_fused_lm_head

from alignlaunch.train.model import next_token
from alignlaunch.train.stages.pairs import shared

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 32}
#: Families of models that share, with what they need beside SMALL.
SHARING: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": WINDOW,
    "gemma2": WINDOW | {"query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "gemma3_text": WINDOW,
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {},
    "olmo2": {},
    "granite": {"logits_scaling": 3.0},
    "cohere2": WINDOW | {"logit_scale": 0.5},
    "smollm3": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS,
}
EAGER_ONLY = ("gemma2", "sdpa")  # its scores are capped
NOT_SHARING = ("bloom", "mamba", "falcon_mamba", "recurrent_gemma")


def sequences(pairs: list[tuple[int, int, int]], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and labels (2 B, T) of pairs of (prompt, first answer, second answer) tokens; answers are learnt."""
    torch.manual_seed(seed)
    made = []
    for prompt, *answers in pairs:
        given = torch.randint(1, 64, (prompt,))
        made.append([(prompt, torch.cat([given, torch.randint(1, 64, (size,))])) for size in answers])
    rows = [pair[side] for side in (0, 1) for pair in made]
    width = max(len(ids) for _, ids in rows)
    ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, (prompt, own) in enumerate(rows):
        ids[i, : len(own)], mask[i, : len(own)] = own, 1
        start = 0 if i < len(pairs) else prompt  # of the first answers the prompt is learnt, too, as by ORPO
        labels[i, start : len(own)] = own[start:]
    return ids, mask, labels


LM: Any = AutoModelForCausalLM
Scorer: Any = AutoModelForSequenceClassification


def model(family: str, attention: str = "sdpa", **more: Any) -> Any:
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **(SMALL | SHARING.get(family, {}) | more))
    config._attn_implementation = attention
    config._experts_implementation = "eager"  # the grouped product has no double precision
    made = LM.from_config(config).double()
    add_fused_lm_head(made, outputs=("log_probs", "entropy", "is_top1"))
    next_token.install(made, "entropy", "is_top1")
    return made.eval()


def outcome(
    of: Any, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The output, and the gradients of a loss that weighs each token differently."""
    of.zero_grad()
    found = of(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
    weights = torch.linspace(-1, 2, found.log_probs.numel()).view_as(found.log_probs)
    torch.autograd.backward((weights * found.log_probs).sum())
    return found, {name: p.grad.clone() for name, p in of.named_parameters() if p.grad is not None}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that ran on rows of pairs."""
    names: list[str] = []

    def watched(name: str) -> Any:
        run = getattr(shared, name)

        def recorded(*given: Any) -> Any:
            names.append(name)
            return run(*given)

        return recorded

    monkeypatch.setattr(shared, "_agrees", lambda *_: True)  # which would run them once more
    for name in ("_next_tokens", "_scores"):
        monkeypatch.setattr(shared, name, watched(name))
    return names


def with_adapter(to: Any, task: str) -> Any:
    options = peft.LoraConfig(r=4, target_modules="all-linear", task_type=task, init_lora_weights=False)
    return peft.get_peft_model(to, options).eval()


PAIRS = [(12, 4, 6), (9, 1, 3), (3, 5, 2)]


@pytest.mark.parametrize(
    ("family", "attention"),
    [(family, attention) for family in SHARING for attention in ("sdpa", "eager") if (family, attention) != EAGER_ONLY],
)
def test_every_family_gives_the_same(family: str, attention: str, used: list[str]) -> None:
    batch = sequences(PAIRS)
    made = model(family, attention)
    expected, gradients = outcome(made, *batch)
    assert shared.install(made) == ""
    found, own = outcome(made, *batch)
    assert used == ["_next_tokens"]
    assert made.tokens_saved == 11 + 8 + 2  # of each prompt all but the token before the answers
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        assert found[name].double().allclose(expected[name].double(), atol=1e-6), name
    assert own.keys() == gradients.keys()
    assert all(own[name].allclose(gradient, atol=1e-6) for name, gradient in gradients.items())


@pytest.mark.parametrize("family", NOT_SHARING)
def test_a_model_that_is_not_masked_is_refused(family: str) -> None:
    config = AutoConfig.for_model(family, **SMALL | {"n_head": 4, "expand": 2, "time_step_rank": 4})
    assert "layers that carry" in shared.why_not(LM.from_config(config))


def test_it_is_tried_before_it_is_relied_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A model whose tokens see all others passes for a decoder here."""
    batch = sequences(PAIRS)
    made = model("roberta", is_decoder=True)
    assert shared.install(made) == ""
    made.config.is_decoder = False
    for layer in made.roberta.encoder.layer:
        layer.attention.self.is_causal = layer.attention.self.is_decoder = False
    outcome(made, *batch)
    assert made.tokens_saved == 0
    assert "computed once, log_probs differ by" in capsys.readouterr().out
    assert made.training is False
    decoder = model("qwen3").train()
    assert shared.install(decoder) == ""
    outcome(decoder, *batch)
    assert decoder.tokens_saved > 0
    assert decoder.training
    assert capsys.readouterr().out == ""


def test_beyond_a_sliding_window_each_sequence_has_its_own_row() -> None:
    batch = sequences([(20, 4, 6)])
    plain, narrow = model("mistral", sliding_window=8), model("mistral", sliding_window=8)
    expected, _ = outcome(plain, *batch)
    assert shared.install(narrow) == ""
    found, _ = outcome(narrow, *batch)
    assert torch.equal(found.log_probs, expected.log_probs)


def test_flash_attention_and_experts_losses_are_refused() -> None:
    made = model("llama")
    made.config._attn_implementation = "flash_attention_2"
    assert "takes no mask" in shared.why_not(made)
    assert "experts" in shared.why_not(model("qwen3_moe", output_router_logits=True))


@pytest.mark.parametrize("adapted", [False, True])
def test_scores_of_a_reward_model_are_the_same(adapted: bool, used: list[str]) -> None:
    torch.manual_seed(1)
    config = AutoConfig.for_model("qwen2", **SMALL, num_labels=1)
    made: Any = Scorer.from_config(config)
    made = (with_adapter(made, "SEQ_CLS") if adapted else made).double().eval()
    ids, mask, _ = sequences(PAIRS)
    for i in (0, 4):
        ids[i, int(mask[i].sum()) - 1] = 0  # the end-of-sequence token is often the pad token, too
    expected = made(input_ids=ids, attention_mask=mask, use_cache=False).logits
    torch.autograd.backward(expected.square().sum())
    gradients = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    assert shared.install(made) == ""
    found = made(input_ids=ids, attention_mask=mask, use_cache=False).logits
    torch.autograd.backward(found.square().sum())
    assert used == ["_scores"]
    assert found.allclose(expected, atol=1e-9)
    assert all(made.get_parameter(name).grad.allclose(gradient, atol=1e-6) for name, gradient in gradients.items())


def test_an_adapter_s_gradients_are_the_same(used: list[str]) -> None:
    batch = sequences(PAIRS)
    plain = with_adapter(model("qwen3"), "CAUSAL_LM")
    expected, gradients = outcome(plain, *batch)
    assert shared.install(plain) == ""
    found, own = outcome(plain, *batch)
    assert used == ["_next_tokens"]
    assert found.log_probs.allclose(expected.log_probs, atol=1e-6)
    assert own.keys() == gradients.keys()
    assert all(own[name].allclose(gradient, atol=1e-6) for name, gradient in gradients.items())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(0, 99),
)
def test_rows_hold_every_token_once_and_hide_the_other_answer(pairs: list[tuple[int, int, int]], seed: int) -> None:
    ids, mask, _ = sequences(pairs, seed)
    rows = shared.arrange(ids, mask)
    if rows is None:
        return
    assert rows.source.numel() <= shared.WORTHWHILE * ids.numel()
    assert torch.equal(ids.flatten()[rows.source].flatten()[rows.place][mask.bool()], ids[mask.bool()])
    seen, length = rows.visible()[:, 0], rows.source.shape[1]
    for sequence, own in zip(rows.place.tolist(), mask.sum(1).tolist(), strict=True):
        for t in range(own):
            row, at = divmod(sequence[t], length)
            assert int(rows.positions[row, at]) == t
            assert (seen[row, at].nonzero().flatten() + row * length).tolist() == sequence[: t + 1]


def test_pairs_without_a_common_prompt_are_left_as_they_are() -> None:
    ids, mask, _ = sequences([(0, 8, 8), (0, 8, 8)])
    assert shared.arrange(ids, mask) is None
    assert shared.arrange(ids[:3], mask[:3]) is None
