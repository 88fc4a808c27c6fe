"""Where autograd adds a tied embedding's gradient into the head's, as the planner counts it."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from trl.trainer.utils import add_fused_lm_head

from alignlaunch.launchers.planner import heads
from alignlaunch.launchers.planner.activations import Compute
from alignlaunch.launchers.planner.architecture import shapes
from alignlaunch.train.model import next_token
from tests.train.test_flops import llama


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_sum_is_a_table_more_where_the_planner_says_so(
    *, autocast: bool, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (heads, next_token):
        monkeypatch.setattr(module, "are_whole", lambda *_: whole)
    model = llama(tied=True)
    add_fused_lm_head(model)
    next_token.install(model)
    ids = torch.arange(16).view(2, 8)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, fused_lm_head=True)
        output.log_probs.sum().backward()
    table = [[*model.get_input_embeddings().weight.shape]] * 2  # no other tensor has its shape
    sums = [event.name for event in found.events() if "add" in event.name and event.input_shapes[:2] == table]
    how = Compute(4, 2 if autocast else 4, autocast, trained=True)
    arch = shapes.architecture(model.config.to_dict())
    assert sums == ["aten::add_" if heads.adds_in_place(arch, how, ids.numel()) else "aten::add"]
