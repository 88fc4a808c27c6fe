"""safe_dpo on pictures: a tiny LLaVA against the oracle of `test_safe_dpo`, one unpadded sequence at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.train.config import Data, TrainConfig
from alignlaunch.train.data import preparation
from alignlaunch.train.data.encoding import vision
from alignlaunch.train.data.encoding.pair_rows import SIDES
from alignlaunch.train.errors import UserError
from alignlaunch.train.model import loading
from alignlaunch.train.stages import safe_dpo
from alignlaunch.train.stages.pairs import images, score_columns
from alignlaunch.train.stages.pairs.logps import prepare
from alignlaunch.train.stages.safe_dpo import scoring
from alignlaunch.train.stages.safe_dpo.evaluation import SafetyEval

from .test_safe_dpo import BETA, KL, K, Oracle, W, leave_reference, step

#: Tokens of one picture: 4 × 4 patches.
PATCHES = 16


def arguments(gallery: Path, folder: Path, **options: Any) -> Any:
    rewards: dict[str, Any] = {f"{name}_reward_model": str(gallery / name) for name in ("helpful", "harmless")}
    given = rewards | {"beta": BETA, "mm_w": W, "mm_k": K, "kl_coef": KL, "lambda_init": 2.0, "report_to": "none"}
    return safe_dpo.Config(output_dir=str(folder), use_cpu=True, bf16=False, **(given | options))


def reader(gallery: Path) -> tuple[TrainConfig, Any]:
    job = TrainConfig(
        name="seen", stage="safe_dpo", model=str(gallery / "llava"), data=Data(train=["seen_safe.jsonl"]), output_dir=""
    )
    return job, vision.load_processor(job, loading.load_tokenizer(job))


def records(gallery: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (gallery / "seen_safe_eval.jsonl").read_text().splitlines()]
    return [record | {"images": [str(gallery / name) for name in record["images"]]} for record in found]


def read(gallery: Path, folder: Path, args: Any, found: list[dict[str, Any]] | None = None) -> tuple[Any, Any]:
    """The processor, and the rows of `found` (else of `records`) as training has them."""
    import datasets  # type: ignore[import-untyped]

    job, processor = reader(gallery)
    encode = vision.encoder(job, safe_dpo, processor.tokenizer, processor, args)
    file = folder / "read.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in found or records(gallery)))
    made, _ = preparation.prepare(
        preparation.Preparation(role="train", data=Data(train=[str(file)]), stage="safe_dpo", encode=encode, key=""),
        folder,
    )
    rows = datasets.Dataset.from_file(str(made / "data.arrow"))
    return processor, rows.cast_column("images", datasets.List(datasets.Image(mode="RGB")))


class Seeing(Oracle):
    """The oracle, with the pictures; the reward models read the words alone."""

    def __init__(self, gallery: Path, policy: Any, processor: Any) -> None:
        super().__init__(gallery, policy)
        self.reference = AutoModelForImageTextToText.from_pretrained(gallery / "llava").double()
        self.processor = processor

    def logps(self, model: Any, row: dict[str, Any], side: str) -> list[float]:
        prompt, whole = (
            self.processor(text=text, images=row["images"], return_tensors="pt")
            for text in (row[f"{side}_prompt"], row[f"{side}_prompt"] + row[f"{side}_answer"])
        )
        ids = whole["input_ids"][0].tolist()
        with torch.no_grad():
            logits = model(**whole).logits[0]
        return [float(logits[i - 1].log_softmax(0)[ids[i]]) for i in range(prompt["input_ids"].shape[1], len(ids))]


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("scores", ["live", "precomputed"])
def test_the_loss_is_the_formula_s(scores: str, adapter: bool, gallery: Path, tmp_path: Path) -> None:
    """The reference by a live copy, by the adapter switched off, and by columns; and other pictures, another loss."""
    args = arguments(gallery, tmp_path, scores=scores, per_device_eval_batch_size=2)
    processor, rows = read(gallery, tmp_path, args)
    network: Any = AutoModelForImageTextToText.from_pretrained(gallery / "llava")
    if adapter:
        torch.manual_seed(0)
        config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
        network = peft.get_peft_model(network, config)
    trainer = safe_dpo.trainer(args, network, None, processor, rows, None)
    if not adapter:
        leave_reference(trainer.model)
    kept = [trainer.train_dataset[i] for i in range(len(rows))]
    assert ("a_reference" in kept[0]) == (scores == "precomputed")
    loss, _ = step(trainer, [kept[:2], kept[2:]])
    others = [row | {"images": [Image.new("RGB", (30, 20), (9, 99, 199)) for _ in row["images"]]} for row in kept]
    other, _ = step(trainer, [others[:2], others[2:]])
    assert loss == pytest.approx(Seeing(gallery, trainer.model, processor).loss("lagrangian", kept, 2), rel=1e-5)
    assert abs(other - loss) > 1e-3


def test_what_each_model_reads(gallery: Path, tmp_path: Path) -> None:
    """The policy the pictures and each answer after its prompt; the reward models what a record without pictures is."""
    args = arguments(gallery, tmp_path)
    processor, rows = read(gallery, tmp_path, args)
    batch = images.collator(SIDES, processor, None)(list(rows))
    assert batch["images"].keys() == {"pixel_values"}
    counts = [len(record["images"]) for record in records(gallery)] * 2
    assert len(batch["images"]["pixel_values"]) == sum(counts)
    assert (batch["input_ids"] == processor.image_token_id).sum(1).tolist() == [PATCHES * count for count in counts]
    answers = [
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["answer_mask"], strict=True)
    ]
    said = [f"{record[f'response_{i}']}<|end|>" for i in (0, 1) for record in records(gallery)]
    assert answers == said

    blind = AutoTokenizer.from_pretrained(gallery / "model")
    encode = safe_dpo.encoder(blind, args)
    for row, record in zip(rows, records(gallery), strict=True):
        (words,) = encode({name: value for name, value in record.items() if name != "images"}).rows
        assert {name: row[name] for name in words} == words


def test_no_picture_is_cut_off(gallery: Path, tmp_path: Path) -> None:
    """A picture counts as the tokens it becomes; an answer loses its end, a prompt that is too long its pair."""
    record = records(gallery)[1]
    _, processor = reader(gallery)

    def rows_of(**limits: int | None) -> Any:
        return safe_dpo.image_encoder(processor, arguments(gallery, tmp_path, **limits))(record)

    whole = rows_of(max_length=None, max_prompt_length=None)
    (row,) = whole.rows
    opened = row | {"images": [Image.open(file) for file in row["images"]]}
    prompt = len(processor(text=row["a_prompt"], images=opened["images"])["input_ids"][0])
    assert prompt > 2 * PATCHES
    assert not rows_of(max_prompt_length=prompt - 1).rows
    assert not rows_of(max_length=prompt).rows
    assert rows_of(max_prompt_length=prompt).rows == [row]
    cut = rows_of(max_length=prompt + 2)
    assert cut.truncated
    assert not whole.truncated
    batch = images.collator(SIDES, processor, prompt + 2)([opened])
    assert batch["input_ids"].shape == (2, prompt + 2)
    assert batch["answer_mask"].sum(1).tolist() == [2, 2]
    assert (batch["input_ids"] == processor.image_token_id).sum(1).tolist() == [2 * PATCHES] * 2


def test_all_that_a_processor_returns(gallery: Path, tmp_path: Path) -> None:
    """Gemma 3 wants the kinds of tokens too, and writes more around a picture than its tokens."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor, SiglipVisionConfig
    from transformers.models.gemma3 import Gemma3TextConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    specials = {name: f"<{name}>" for name in ("boi_token", "eoi_token", "image_token")}
    tokenizer: Any = AutoTokenizer.from_pretrained(gallery / "model", extra_special_tokens=specials)
    make: Any = Gemma3Processor
    pil: Any = Gemma3ImageProcessorPil
    template = (gallery / "llava" / "chat_template.jinja").read_text().replace("<image>", tokenizer.boi_token)
    size = {"height": 16, "width": 16}
    processor = make(pil(size=size), tokenizer, image_seq_length=4, chat_template=template)
    encode = safe_dpo.image_encoder(processor, arguments(gallery, tmp_path))
    rows = [row for record in records(gallery) for row in encode(record).rows]
    rows = [row | {"images": [Image.open(file) for file in row["images"]]} for row in rows]
    longest = 40
    batch = images.collator(SIDES, processor, longest)(rows)
    assert batch["images"].keys() == {"pixel_values", "token_type_ids"}
    assert batch["input_ids"].shape == batch["images"]["token_type_ids"].shape == (2 * len(rows), longest)

    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = Gemma3TextConfig(
        **shape, vocab_size=len(tokenizer), num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=64
    )
    sight = SiglipVisionConfig(**shape, num_attention_heads=2, image_size=16, patch_size=4)
    config = Gemma3Config(
        text_config=text, vision_config=sight, mm_tokens_per_image=4, image_token_index=tokenizer.image_token_id
    )
    torch.manual_seed(0)
    network: Any = Gemma3ForConditionalGeneration(config).train()
    prepare(network)
    logps = scoring.reference_logps(network, batch)
    assert logps.shape == (2 * len(rows), longest - 1)
    for i, (row, side) in enumerate((row, side) for side in SIDES for row in rows):
        whole = processor(text=row[f"{side}_prompt"] + row[f"{side}_answer"], images=row["images"], return_tensors="pt")
        ids, start = whole["input_ids"][0], whole["input_ids"].shape[1] - row[f"{side}_answer_length"]
        found = network(**whole).logits[0, :-1].log_softmax(-1)
        expected = sum(float(found[k - 1, ids[k]].detach()) for k in range(start, min(len(ids), longest)))
        assert float(logps[i].sum().detach()) == pytest.approx(expected, rel=1e-4)


def test_a_reward_model_may_lack_the_placeholders_alone(gallery: Path, tmp_path: Path) -> None:
    _, processor = reader(gallery)
    args = arguments(gallery, tmp_path)
    scoring.reward_model("helpful", str(gallery / "helpful"), processor, args)
    for name, says in (("<image>", None), ("<|new|>", r"1 differ, such as '<\|new\|>'.*the policy's as its job's")):
        folder = tmp_path / name.strip("<|>")
        AutoModelForSequenceClassification.from_pretrained(gallery / "helpful").save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(gallery / "helpful")
        tokenizer.add_tokens([name])
        tokenizer.save_pretrained(folder)
        if says is None:
            scoring.reward_model("helpful", str(folder), processor, args)
        else:
            with pytest.raises(UserError, match=says):
                scoring.reward_model("helpful", str(folder), processor, args)


def test_columns_are_those_of_the_pictures_as_they_are(gallery: Path, tmp_path: Path) -> None:
    args = arguments(gallery, tmp_path)
    _, rows = read(gallery, tmp_path, args)
    files = sorted({file for record in records(gallery) for file in record["images"]})
    assert list(map(str, vision.pictures(rows))) == files
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(files[0]).read_bytes())
    first = score_columns.identity("model", args, scoring, files=[copy])
    assert score_columns.identity("model", args, scoring, files=[copy]) == first
    os.utime(copy, (1, 1))
    assert score_columns.identity("model", args, scoring, files=[copy]) != first


@torch.no_grad()
def test_the_evaluation_by_generation_sees_the_pictures(gallery: Path, tmp_path: Path) -> None:
    """The same words and other pictures are another prompt; the answers are those of one model call a token."""
    first, second, *_ = records(gallery)
    asked = [first, first, first | {"images": second["images"][1:]}, second]
    args = arguments(gallery, tmp_path, eval_generate=9, eval_max_new_tokens=6, per_device_eval_batch_size=2)
    processor, rows = read(gallery, tmp_path, args, asked)
    network: Any = AutoModelForImageTextToText.from_pretrained(gallery / "llava")
    for weight in network.parameters():
        weight.mul_(8)  # with weights as small as those of a new model all pictures look alike
    evaluation = SafetyEval(network, processor, rows, args)
    expected = [one_by_one(network, processor, rows[i]) for i in (0, 2, 3)]
    assert expected[0] != expected[1]
    assert evaluation._start == expected
    load: Any = AutoModelForSequenceClassification
    rewards = {name: load.from_pretrained(gallery / name).eval() for name in ("helpful", "harmless")}
    leave_reference(network)
    scorers = {name: scoring.reward_model(name, str(gallery / name), processor, args) for name in rewards}
    found, answers = evaluation.run(network, scorers)
    assert ["image" in answer["prompt"] for answer in answers] == [False] * 3  # the words alone
    trained = [one_by_one(network, processor, rows[i]) for i in (0, 2, 3)]
    for name, given in (("trained", trained), ("start", expected)):
        words = [rows[i]["a_input_ids"][: rows[i]["a_prompt_length"]] for i in (0, 2, 3)]
        scores = [
            float(rewards["helpful"](input_ids=torch.tensor([ids + answer])).logits)
            for ids, answer in zip(words, given, strict=True)
        ]
        assert found["helpful_score"][name] == pytest.approx(sum(scores) / 3, abs=1e-5)


def one_by_one(network: Any, processor: Any, row: dict[str, Any]) -> list[int]:
    """An answer by argmax over words, without padding, cache or `generate`."""
    text = row["a_prompt"]
    answer: list[int] = []
    for _ in range(6):
        given = processor(text=text, images=row["images"], return_tensors="pt")
        given["input_ids"] = torch.cat([given["input_ids"], torch.tensor([answer], dtype=torch.long)], dim=1)
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        logits = network(**given).logits[0, -1]
        logits[processor.image_token_id] = -torch.inf
        answer.append(int(logits.argmax()))
        if answer[-1] == processor.tokenizer.eos_token_id:
            break
    return answer
