"""Which tokens are learnt, under chat templates of different kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.data.encoding.chat_template import FALLBACK_CHAT_TEMPLATE
from alignlaunch.train.data.encoding.tokens import Tokens, encode
from alignlaunch.train.data.formats.turns import FormatError
from alignlaunch.train.stages import orpo, rm, sft
from tests.support.tiny import CHAT_TEMPLATE, IMAGE_CHAT_TEMPLATE

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Like Qwen3: what was thought in earlier turns is dropped, so the text of a turn changes when another follows.
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Like DeepSeek-R1: the question to the model already opens the thought.
EAGER = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
CONVERSATION = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "Paris is good"},
    {"role": "user", "content": "Paris is good"},
    {"role": "assistant", "content": "never"},
]


@pytest.fixture
def tokenizer(workplace: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(workplace / "model")


def learnt(tokenizer: Any, tokens: Tokens) -> list[str]:
    """The learnt stretches as text."""
    runs: list[list[int]] = []
    previous = False
    for token, marked in zip(tokens.ids, tokens.learnt, strict=True):
        if marked:
            if not previous:
                runs.append([])
            runs[-1].append(token)
        previous = marked
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, [["Paris is good<|end|>\n", "never<|end|>\n"]]),
        (FORGETFUL, [["<think></think>Paris is good<|end|>"], ["<think></think>never<|end|>"]]),
        (EAGER, [["Paris is good<|end|>", "never<|end|>"]]),
        (FALLBACK_CHAT_TEMPLATE, [["Paris is good<|end|>\n\n", "never<|end|>\n\n"]]),
    ],
)
def test_only_the_assistant_is_learnt(tokenizer: Any, template: str, expected: list[list[str]]) -> None:
    tokenizer.chat_template = template
    found = encode(tokenizer, [], CONVERSATION)
    assert [learnt(tokenizer, tokens) for tokens in found] == expected
    whole = tokenizer.apply_chat_template(CONVERSATION, tokenize=False)
    assert tokenizer.decode(found[-1].ids) == whole


def test_a_template_that_wants_parts_gets_them(tokenizer: Any) -> None:
    """Those of some vision-language models write nothing for a plain text: a record without images would be empty."""
    turns = [{"role": "user", "content": "the capital"}], [{"role": "assistant", "content": "is Paris"}]
    tokenizer.chat_template = IMAGE_CHAT_TEMPLATE
    (tokens,) = encode(tokenizer, *turns)
    text = tokenizer.decode(tokens.ids)
    assert "the capital" in text
    assert "is Paris" in text
    tokenizer.chat_template = CHAT_TEMPLATE
    (plain,) = encode(tokenizer, *turns)
    assert (tokens.ids, tokens.learnt) == (plain.ids, plain.learnt)


def test_a_given_assistant_turn_in_the_prompt_is_not_learnt(tokenizer: Any) -> None:
    (tokens,) = encode(tokenizer, CONVERSATION[:4], CONVERSATION[4:])
    assert learnt(tokenizer, tokens) == ["never<|end|>"]


def test_plain_text_ends_with_the_end_of_sequence(tokenizer: Any) -> None:
    (tokens,) = encode(tokenizer, "the capital", " of France")
    assert learnt(tokenizer, tokens) == [" of France<|end|>"]


def test_a_tokenizer_without_offsets_finds_the_same_tokens(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encode(tokenizer, [], CONVERSATION)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    assert encode(tokenizer, [], CONVERSATION) == expected


def test_a_template_that_refuses_is_named(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_SYSTEM
    with pytest.raises(FormatError, match=r"chat template refuses the turns \[system.*no system role"):
        encode(tokenizer, [], CONVERSATION)


def test_sft_rows_are_cut_by_tokens(tokenizer: Any) -> None:
    record = {"prompt": "the capital of France is", "completion": " Paris"}
    whole = sft.encoder(tokenizer, sft.Config(output_dir="x", max_length=64, use_cpu=True, bf16=False))(record)
    size = len(whole.rows[0]["input_ids"])
    assert not whole.truncated
    for mode, ids, dropped in (
        ("keep_start", whole.rows[0]["input_ids"][:-1], False),
        ("keep_end", whole.rows[0]["input_ids"][1:], False),
        ("keep_start", None, True),
    ):
        limit = 3 if dropped else size - 1
        args = sft.Config(output_dir="x", max_length=limit, truncation_mode=mode, use_cpu=True, bf16=False)
        found = sft.encoder(tokenizer, args)(record)
        assert found.truncated
        assert [row["input_ids"] for row in found.rows] == ([] if dropped else [ids])


def test_orpo_keeps_the_end_of_the_prompt_and_the_beginning_of_the_answer(tokenizer: Any) -> None:
    record = {"prompt": "a b c d", "chosen": " e f g", "rejected": " h"}
    args = orpo.Config(output_dir="x", max_length=5, max_prompt_length=3, use_cpu=True)
    found = orpo.encoder(tokenizer, args)(record)
    (row,) = found.rows
    assert found.truncated
    prompt, answer = tokenizer("a b c d")["input_ids"], tokenizer(" e f g")["input_ids"]
    assert row["chosen_input_ids"] == prompt[-3:] + answer[:2]
    assert row["chosen_prompt_length"] == row["rejected_prompt_length"] == 3
    args = orpo.Config(output_dir="x", max_length=3, max_prompt_length=3, use_cpu=True)
    assert orpo.encoder(tokenizer, args)(record).rows == []


def test_the_reward_model_is_told_the_margin(tokenizer: Any) -> None:
    encode_record = rm.encoder(tokenizer, rm.Config(output_dir="x", use_cpu=True, bf16=False))
    pair = {"prompt": "the", "chosen": " good", "rejected": " bad"}
    (without,), (with_margin,) = encode_record(pair).rows, encode_record(pair | {"margin": 2}).rows
    assert with_margin == without | {"margin": 2.0}


def test_the_reward_model_is_told_which_answers_are_safe(tokenizer: Any) -> None:
    encode_record = rm.encoder(tokenizer, rm.Config(output_dir="x", use_cpu=True, bf16=False))
    pair = {"prompt": "the", "chosen": " good", "rejected": " bad"}
    (without,) = encode_record(pair).rows
    for chosen, rejected in ((1, -1), (1, 1), (None, -1)):
        (row,) = encode_record(pair | {"safety_labels": {"chosen": chosen, "rejected": rejected}}).rows
        assert row == without | {"chosen_safe": chosen or 0, "rejected_safe": rejected}
