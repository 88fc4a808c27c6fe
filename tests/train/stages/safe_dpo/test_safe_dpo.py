"""safe_dpo's trainer against an oracle that shares nothing with it: one unpadded sequence at a time, float64, loops."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.train.data.encoding.pair_rows import SIDES
from alignlaunch.train.data.formats.turns import FormatError
from alignlaunch.train.errors import UserError
from alignlaunch.train.stages import safe_dpo
from alignlaunch.train.stages.pairs.collate import collator
from alignlaunch.train.stages.safe_dpo import scoring

OBJECTIVES = ("dpo", "mm_dpo", "modpo", "safedpo", "bfpo", "lagrangian")
BETA, W, K, WEIGHT, KL = 0.3, 0.6, 0.7, 0.4, 0.2


@pytest.fixture
def records(workplace: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workplace / "safe.jsonl").read_text().splitlines()][:6]


def make(workplace: Path, folder: Path, records: list[dict[str, Any]], **options: Any) -> tuple[Any, Any]:
    """A trainer whose policy has already left its reference, and its rows."""
    given: dict[str, Any] = {
        "scores": "live",
        "beta": BETA,
        "mm_w": W,
        "mm_k": K,
        "modpo_weight": WEIGHT,
        "kl_coef": KL,
        "lambda_init": 2.0,
        "helpful_reward_model": str(workplace / "helpful"),
        "harmless_reward_model": str(workplace / "harmless"),
    }
    args = safe_dpo.Config(output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, **(given | options))
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    model = AutoModelForCausalLM.from_pretrained(workplace / "model")
    encode = safe_dpo.encoder(tokenizer, args)
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    trainer = safe_dpo.trainer(args, model, None, tokenizer, rows, None)
    leave_reference(trainer.model)
    return trainer, list(rows)


def leave_reference(model: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def step(trainer: Any, micro_batches: list[list[Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    """One step's loss and gradients, without the optimizer."""
    batches = [trainer.data_collator(rows) for rows in micro_batches]
    found, totals = trainer.get_batch_samples(iter(batches), len(batches), torch.device("cpu"))
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(found)
    loss = sum(float(trainer.training_step(trainer.model, batch, totals)) for batch in found)
    return loss, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


class Oracle:
    """The objectives in float64, from the documents' formulas."""

    def __init__(self, workplace: Path, policy: Any) -> None:
        load: Any = AutoModelForSequenceClassification
        self.policy = policy.double()
        self.reference = AutoModelForCausalLM.from_pretrained(workplace / "model").double()
        self.rewards = {name: load.from_pretrained(workplace / name).double() for name in ("helpful", "harmless")}

    def logps(self, model: Any, row: dict[str, Any], side: str) -> list[float]:
        ids, start = row[f"{side}_input_ids"], row[f"{side}_prompt_length"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        return [float(logits[i - 1].log_softmax(0)[ids[i]]) for i in range(start, len(ids))]

    def row(self, row: dict[str, Any]) -> dict[str, float]:
        found: dict[str, float] = {}
        for side in ("a", "b"):
            ids = row[f"{side}_input_ids"]
            terms = [
                p - r for p, r in zip(*(self.logps(m, row, side) for m in (self.policy, self.reference)), strict=True)
            ]
            found[side] = sum(terms)
            found[f"kl_{side}"] = sum(term**2 / 2 for term in terms)
            for name, model in self.rewards.items():
                with torch.no_grad():
                    found[f"{name}_{side}"] = float(model(input_ids=torch.tensor([ids])).logits)
        share = 1 / (1 + math.exp(found["b"] - found["a"]))  # of response a in what the policy says
        return found | {"kl": share * found["kl_a"] + (1 - share) * found["kl_b"]}

    def loss(self, objective: str, rows: list[dict[str, Any]], multiplier: float) -> float:
        losses, helpful, safe, kls = [], [], [], []
        for row in rows:
            found = self.row(row)
            w, lost = ("a", "b") if row["better"] == 1 else ("b", "a")
            h, margin = found[w] - found[lost], {n: found[f"{n}_{w}"] - found[f"{n}_{lost}"] for n in self.rewards}
            s_w, s_l = row[f"{w}_safe"] > 0, row[f"{lost}_safe"] > 0
            kls.append(found["kl"])
            if objective == "dpo":
                losses.append(nls(BETA * h))
            elif objective == "mm_dpo":
                losses.append(nls(scaled(margin["helpful"]) * h))
            elif objective == "modpo":
                losses.append(nls((BETA * h - (1 - WEIGHT) * margin["harmless"]) / WEIGHT))
            elif objective == "safedpo":
                losses.append(nls(BETA * (h if s_w else -h) - 10 * (s_w != s_l)))
            elif objective == "bfpo":
                losses.append((h - (1.5 * s_w - 0.5 * s_l - 0.5) / BETA) ** 2)
            if row["better"]:
                helpful.append(nls(scaled(abs(margin["helpful"])) * h))
            if row["safer"]:
                sign = row["safer"]
                safe.append(nls(scaled(abs(margin["harmless"])) * sign * (found["a"] - found["b"])))
        if objective != "lagrangian":
            return mean(losses)
        return (mean(helpful) + multiplier * mean(safe)) / (1 + multiplier) + KL * mean(kls)


def nls(x: float) -> float:
    return math.log1p(math.exp(-x))


def scaled(margin: float) -> float:
    return min(max(BETA * (1 + W * (1 - math.exp(-K * margin))), BETA), BETA * (1 + W))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_the_formula_s(
    objective: str, workplace: Path, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    if objective == "lagrangian":  # pairs of one order each beside pairs of both
        records[0]["better_response_id"] = None
        for key in ("safer_response_id", "is_response_0_safe", "is_response_1_safe"):
            records[1][key] = None
    trainer, rows = make(workplace, tmp_path, records, objective=objective)
    loss, _ = step(trainer, [rows[:2], rows[2:]])
    expected = Oracle(workplace, trainer.model).loss(objective, rows, multiplier=2)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_any_split_into_micro_batches_gives_the_same_gradient(
    workplace: Path, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    records[0]["better_response_id"] = None
    trainer, rows = make(workplace, tmp_path, records)
    whole, expected = step(trainer, [rows])
    cost = trainer.step_mean("cost")
    uneven, grads = step(trainer, [rows[:1], rows[1:]])
    assert uneven == pytest.approx(whole, abs=1e-6)
    assert trainer.step_mean("cost") == pytest.approx(cost, abs=1e-6)
    assert all(grads[name].allclose(grad, atol=1e-5) for name, grad in expected.items())


def test_precomputed_scores_keep_their_precision_under_deepspeed(
    workplace: Path, tmp_path: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = make(workplace, tmp_path, records)
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(dtype=lambda: torch.bfloat16))
    monkeypatch.setattr(trainer, "accelerator", SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin)))
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    given = {name: torch.tensor([-1.2345678]) for name in ("reference", "harmless", "pixel_values")}
    found = trainer._prepare_inputs(given)
    assert found["pixel_values"].dtype == torch.bfloat16
    assert all(found[name].equal(given[name]) for name in ("reference", "harmless"))


def test_the_two_orders_pull_apart(workplace: Path, tmp_path: Path, records: list[dict[str, Any]]) -> None:
    """A pair whose helpful response is the unsafe one: lambda decides which response the gradient prefers."""
    record = records[0] | {"better_response_id": 0, "safer_response_id": 1}
    trainer, rows = make(workplace, tmp_path, [record], kl_coef=0.0)
    grads = []
    for multiplier in (0.0, 1e9):
        trainer.multiplier.value = multiplier
        grads.append(step(trainer, [rows])[1]["lm_head.weight"].flatten())
    assert torch.nn.functional.cosine_similarity(grads[0], grads[1], dim=0) < -0.9


def test_safedpo_drops_pairs_of_two_unsafe_responses(workplace: Path, records: list[dict[str, Any]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    unsafe = records[0] | {"is_response_0_safe": False, "is_response_1_safe": False}
    kept = {
        objective: len(safe_dpo.encoder(tokenizer, safe_dpo.Config(objective=objective))(unsafe).rows)
        for objective in ("safedpo", "bfpo")
    }
    assert kept == {"safedpo": 0, "bfpo": 1}


@pytest.mark.parametrize(
    ("objective", "missing", "says"),
    [
        ("dpo", ("better_response_id",), "objective dpo orders pairs by helpfulness"),
        ("bfpo", ("is_response_1_safe",), "objective bfpo needs a safety label for each response, and one has none"),
        ("safedpo", ("is_response_0_safe",), "objective safedpo needs a safety label"),
        ("lagrangian", ("better_response_id", "safer_response_id"), "no label says which response is the more helpful"),
    ],
)
def test_a_missing_label(
    objective: Any, missing: tuple[str, ...], says: str, workplace: Path, records: list[dict[str, Any]]
) -> None:
    record = records[0] | {"is_response_0_safe": True, "is_response_1_safe": True} | dict.fromkeys(missing)
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    with pytest.raises(FormatError, match=says):
        safe_dpo.encoder(tokenizer, safe_dpo.Config(objective=objective))(record)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"harmless_reward_model": None}, "train.harmless_reward_model: missing, and train.objective lagrangian reads"),
        ({"helpful_reward_model": "absent"}, "train.helpful_reward_model: absent: no such folder"),
        ({"helpful_reward_model": "model"}, "it has no score head with one output"),
        ({"harmless_reward_model": "other"}, "another vocabulary than the policy's"),
        ({"helpful_reward_model": "adapter"}, "the adapter has no score head"),
        (
            {"helpful_reward_model": "template"},
            "its chat template writes a conversation as 'probe user probe assistant probe user probe assistant ', and "
            "the policy's the same one as '<|user|>probe user<|end|>",
        ),
    ],
)
def test_a_reward_model_that_cannot_serve(
    options: dict[str, Any],
    says: str,
    workplace: Path,
    tmp_path: Path,
    records: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import peft

    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    load: Any = AutoModelForSequenceClassification
    model = load.from_pretrained(workplace / "harmless")
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "adapter")
    template = tokenizer.chat_template
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    model.save_pretrained(tmp_path / "template")
    tokenizer.save_pretrained(tmp_path / "template")
    tokenizer.chat_template = template
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(tmp_path / "other")
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))  # no task type: no score head
    adapted.save_pretrained(str(tmp_path / "adapter"))
    (tmp_path / "model").symlink_to(workplace / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        make(workplace, tmp_path, records, **options)
    assert says in str(error.value)


def test_a_reward_model_that_is_an_adapter(workplace: Path, tmp_path: Path, records: list[dict[str, Any]]) -> None:
    """The adapter and its score head count, and padding does not."""
    import peft

    load: Any = AutoModelForSequenceClassification
    torch.manual_seed(5)
    config = peft.LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"], init_lora_weights=False)
    base = load.from_pretrained(workplace / "model", num_labels=1)  # with a new head
    expected: Any = peft.get_peft_model(base, config).eval()
    expected.save_pretrained(str(tmp_path / "rm"))
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    tokenizer.save_pretrained(tmp_path / "rm")
    args = safe_dpo.Config(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    rows = [row for record in records for row in safe_dpo.encoder(tokenizer, args)(record).rows]
    scores = scoring.reward_model("harmless", str(tmp_path / "rm"), tokenizer, args)(
        collator(SIDES, tokenizer.pad_token_id)(rows)
    )
    sequences = [row[f"{side}_input_ids"] for side in SIDES for row in rows]
    with torch.no_grad():
        alone = [float(expected(input_ids=torch.tensor([ids])).logits) for ids in sequences]
    assert scores.tolist() == pytest.approx(alone, abs=1e-5)


def test_a_lagrangian_without_one_of_its_orders(workplace: Path, tmp_path: Path, records: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="no pair is ordered by helpfulness"):
        make(workplace, tmp_path, [record | {"better_response_id": None} for record in records])


def test_bad_values() -> None:
    with pytest.raises(ValueError, match=r"objective must be one of dpo, .*; lambda_init must lie above 0"):
        safe_dpo.Config(objective="kto", lambda_init=11.0)  # type: ignore[arg-type]
