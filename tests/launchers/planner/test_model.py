"""Finding a model: folders, sharded safetensors, the hub's cache, figures by hand; and what is said where none is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.planner.architecture import headers, model, shapes
from alignlaunch.launchers.planner.architecture.model import UnknownModelError

from .test_shapes import SMALL, config_of

HAND = {"hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40, "vocab_size": 152064}


def save(folder: Path, family: str = "llama", shard: str = "1GB") -> int:
    """Save a real small model; returns the number of its parameters."""
    import transformers

    auto: Any = transformers.AutoModelForCausalLM
    real = auto.from_config(config_of(family, {}))
    real.save_pretrained(folder, max_shard_size=shard)
    return sum(p.numel() for p in real.parameters())


@pytest.mark.parametrize("shard", ["1GB", "40KB"])
@pytest.mark.parametrize("family", ["cohere", "gemma"])
def test_headers_of_one_file_or_many(tmp_path: Path, family: str, shard: str) -> None:
    count = save(tmp_path, family, shard)
    assert (len(headers.files(tmp_path)) > 1) is (shard == "40KB")
    assert shapes.count(headers.parameters(tmp_path)) == count
    found = model.find(".", tmp_path)
    assert (found.count, found.exact) == (count, True)
    assert found.origin == ("config.json" if family == "gemma" else "safetensors headers")


def test_no_weight_is_read(tmp_path: Path) -> None:
    count = save(tmp_path, "cohere")
    file = tmp_path / "model.safetensors"
    length = int.from_bytes(file.read_bytes()[:8], "little")
    with file.open("r+b") as whole:
        whole.truncate(8 + length)
    assert model.find(".", tmp_path).count == count


def test_a_family_that_is_not_known_and_has_no_weights_is_an_estimate(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, "model_type": "new"}))
    assert not model.find(".", tmp_path).exact


def test_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "models--org--name"
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps({**SMALL, "model_type": "llama"}))
    assert model.find("org/name", tmp_path).architecture.hidden == SMALL["hidden_size"]


def test_an_adapter_has_the_size_of_its_base(tmp_path: Path) -> None:
    count = save(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base"}))
    assert model.find("adapter", tmp_path).count == count


@pytest.mark.parametrize(
    "given", [{}, {"num_key_value_heads": 8}, {"num_key_value_heads": 8, "intermediate_size": 27648}]
)
def test_figures_by_hand_make_exactly_what_was_said(given: dict[str, Any]) -> None:
    found = model.by_hand("32.7639B" if "intermediate_size" in given else "32B", {**HAND, **given})
    assert found.count == (32_763_900_000 if "intermediate_size" in given else 32_000_000_000)
    assert found.parameters.get("rest", (0,))[0] < 0.16 * found.count


@pytest.mark.parametrize(
    ("parameters", "config", "said"),
    [
        ("many", HAND, "a number with K, M, B or T is expected"),
        ("0B", HAND, "a number with K, M, B or T is expected"),
        ("1B", HAND, "parameters"),
        ("32B", {}, "`hidden_size`"),
        ("32B", {**HAND, "num_hidden_layers": -1}, "`num_hidden_layers`"),
    ],
)
def test_figures_that_make_no_model(parameters: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownModelError, match=said):
        model.by_hand(parameters, config)


HEADER = b'{"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a safetensors file"),
        (b"PK\x03\x04 a zip file, not one of weights", "not a safetensors file"),
        (len(HEADER).to_bytes(8, "little") + HEADER[:9], "not JSON"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        ((9).to_bytes(8, "little") + b'{"w": {}}', "no shape"),
        (len(HEADER).to_bytes(8, "little") + HEADER.replace(b"F32", b"I32"), "quantised"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, "model_type": "new"}))
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UnknownModelError, match=said):
        model.find(".", tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "not a JSON object"), ("{}", "`hidden_size`")],
)
def test_a_folder_that_is_no_model(tmp_path: Path, config: str | None, said: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UnknownModelError, match=said):
        model.find(".", tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("decoder_sparse_step", 0), ("mlp_only_layers", 1), ("shared_expert_intermediate_size", -1)],
)
def test_a_key_that_only_some_layers_read(tmp_path: Path, key: str, value: int) -> None:
    config = {**SMALL, "model_type": "qwen2_moe", "num_experts": 4, "moe_intermediate_size": 24, key: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownModelError, match=f"`{key}` = {value}"):
        model.find(".", tmp_path)


def test_a_hub_id_that_was_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nowhere"))
    with pytest.raises(UnknownModelError, match=r"neither a folder here nor in .*nowhere"):
        model.find("org/name", tmp_path)
