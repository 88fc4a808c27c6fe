"""A tiny random model with a tokenizer and chat template, and tiny data: seconds where a real model takes minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: The same with tools, calls and whatever tools answer.
TOOL_CHAT_TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: CHAT_TEMPLATE for contents that are lists of parts, as processors want it.
IMAGE_CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: `train:` of a run that is over in seconds.
TRAIN: dict[str, Any] = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "max_steps": 3,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "report_to": "none",
    "max_length": 64,
}
WORDS = "the capital of France is Paris and a good answer is short while a bad one never ends".split()


def say(start: int, count: int) -> str:
    """`count` words, others for another `start`."""
    return " ".join(WORDS[(start + k) % len(WORDS)] for k in range(count))


def write_data(folder: Path) -> None:
    """`sft.jsonl` (messages), `pairs.jsonl` (prompt, chosen, rejected), `rated.jsonl` (pairs with safety
    labels), `safe.jsonl` (as PKU-SafeRLHF), `texts.jsonl`.

    16 records each, of differing lengths.
    """
    sft = [
        {
            "messages": [
                {"role": "user", "content": say(i, 4)},
                {"role": "assistant", "content": say(3 * i, 2 + i % 5)},
            ]
            * (1 + i % 2)
        }
        for i in range(16)
    ]
    pairs = [
        {"prompt": say(i, 3), "chosen": " " + say(i + 1, 2 + i % 5), "rejected": " " + say(i + 7, 7 - i % 4)}
        for i in range(16)
    ]
    rated = [pair | {"safety_labels": {"chosen": 1, "rejected": (1, -1, None)[i % 3]}} for i, pair in enumerate(pairs)]
    texts = [{"text": say(i, 5 + 7 * (i % 5))} for i in range(40)]
    safe = [
        {
            "prompt": say(i, 3),
            "response_0": say(i + 1, 2 + i % 5),
            "response_1": say(i + 7, 7 - i % 4),
            "better_response_id": i % 2,
            "safer_response_id": i % 3 % 2,
            "is_response_0_safe": i % 3 != 1,
            "is_response_1_safe": i % 3 == 1 or i % 4 == 0,
            "category": ("fraud", "theft")[i % 2],
        }
        for i in range(16)
    ]
    for name, records in (
        ("sft", sft),
        ("pairs", pairs),
        ("pairs_eval", pairs[:7]),
        ("rated", rated),
        ("rated_eval", rated[:7]),
        ("texts", texts),
        ("safe", safe),
        ("safe_eval", safe[:5]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def make_tokenizer() -> Any:
    """A byte-level tokenizer of at most 300 tokens, some of which are whole WORDS with the space before them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [" ".join(WORDS)] * 4, trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet)
    )
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(folder: Path) -> None:
    """A LlamaForCausalLM of two layers of 32, always the same weights, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def make_reward_model(folder: Path, model: Path, seed: int) -> None:
    """A sequence classifier of the same shape with one output, another for another seed, and the tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    config: Any = LlamaConfig.from_pretrained(model, num_labels=1)
    make: Any = LlamaForSequenceClassification
    make(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)


def make_llava(folder: Path, language: Path) -> None:
    """LLaVA around a new language model of the tiny one's shape: pictures of 16 × 16 in patches of 4."""
    import torch
    from transformers import (
        AutoConfig,
        AutoTokenizer,
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer: Any = AutoTokenizer.from_pretrained(language)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    text = AutoConfig.from_pretrained(language, vocab_size=len(tokenizer))
    sight = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    config = LlavaConfig(
        text_config=text, vision_config=sight, image_token_index=tokenizer.convert_tokens_to_ids("<image>")
    )
    torch.manual_seed(0)
    model: Any = LlavaForConditionalGeneration(config)
    model.save_pretrained(folder)
    make: Any = CLIPImageProcessorPil
    size = {"height": 16, "width": 16}
    processor: Any = LlavaProcessor
    processor(
        make(size={"shortest_edge": 16}, crop_size=size),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=IMAGE_CHAT_TEMPLATE,
    ).save_pretrained(folder)
