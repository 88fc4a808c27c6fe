"""How far a DPO reference in bf16 is from the policy that it begins as: fp32 weights that compute under autocast.

    python -m bench.reference_precision

Sums over answers of up to 256 tokens, of the real model; a reference in the policy's own type is off by nothing at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples/models/SmolLM2-135M-Instruct"
TEXTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/plan.md")


def main() -> None:
    """Print a line for each text."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    policy, reference = (AutoModelForCausalLM.from_pretrained(MODEL, dtype=t) for t in (torch.float32, torch.bfloat16))
    print("| text | tokens | fp32 reference: nats | bf16 reference: nats | a token, absolute |\n|---|---|---|---|---|")
    for name in TEXTS:
        ids = tokenizer((ROOT / name).read_text()[:2000], return_tensors="pt").input_ids[:, :256]
        start, same, other = (token_logps(model, ids) for model in (policy, policy, reference))
        away = start - other
        print(
            f"| {name} | {ids.shape[1]} | {float((start - same).sum()):.3f} | {float(away.sum()):.3f} "
            f"| {float(away.abs().mean()):.4f} |"
        )


def token_logps(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """log p of each token but the first (1, T - 1), as training computes it."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids).logits[:, :-1].float()
    logps: torch.Tensor = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return logps


if __name__ == "__main__":
    main()
