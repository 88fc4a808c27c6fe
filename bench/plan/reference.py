"""The peak memory of one training step by torch's own tracker on fake tensors: real models and losses, no memory.

The model is transformers', the adapter PEFT's as `train.adapter` configures it, the loss that of our trainers; autocast
and DeepSpeed's cast to 16 bits are applied as accelerate and DeepSpeed apply them. On CPU fake tensors of torch 2.13
each batch gets an attention mask, as a padded batch of several sequences does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from alignlaunch.launchers.planner import heads, memory
from alignlaunch.launchers.planner.memory import Setup
from alignlaunch.train.model import adapter, next_token


class Tracker(MemTracker):  # type: ignore[no-untyped-call]
    """MemTracker without its statistics by module, which take most of its time and refuse frozen weights."""

    def _pre_fw_hook(self, module: Any, inputs: Any) -> None: ...

    def _post_fw_hook(self, module: Any, inputs: Any, outputs: Any) -> None: ...

    def _pre_bw_hook(self, module: Any, args: Any) -> None: ...

    def _post_bw_hook(self, module: Any, args: Any) -> None: ...

    def _track_module_params_and_buffers(self, module: Any, install_grad_hooks: bool = True) -> Any:
        return super()._track_module_params_and_buffers(module, install_grad_hooks=False)


def peak(config: Any, setup: Setup) -> int:
    """Bytes at the peak of one step of one process with `config`'s model: AdamW's states are there from the start.

    ZeRO is stage 2 on one GPU, whose partition is the whole: the same numbers in DeepSpeed's precision.
    """
    model = build(config, setup, device="meta")
    if setup.half and not setup.zero:
        from accelerate.utils import convert_outputs_to_fp32  # type: ignore[import-untyped]

        model.forward = convert_outputs_to_fp32(torch.autocast("cpu", dtype=torch.bfloat16)(model.forward))
    with FakeTensorMode(allow_non_fake_inputs=True), _as_on_a_gpu():
        _materialise(model, setup)
        trained = [p for p in model.parameters() if p.requires_grad]
        masters = [torch.nn.Parameter(p.detach().float()) for p in trained] if setup.zero else trained
        optimizer = torch.optim.AdamW(masters, fused=True)
        _make_states(optimizer)
        ids = torch.zeros(setup.sequences, setup.length, dtype=torch.long)
        tracker = Tracker()
        tracker.track_external(model, optimizer, ids, *masters)
        with tracker:
            for _ in range(min(setup.accumulation, 2)):
                loss(model, ids, setup).backward()
            for parameter, master in zip(trained, masters, strict=True):
                if parameter is not master:
                    master.grad = parameter.grad.float() if parameter.grad is not None else None
            optimizer.step()
        found = tracker.get_tracker_snapshot("peak")
    return int(sum(snapshot["Total"] for snapshot in found.values()))


def build(config: Any, setup: Setup, *, device: str) -> Any:
    """The model as the entrypoint has it, with checkpointing and adapter; its weights are random."""
    import peft
    import transformers

    dtype = torch.bfloat16 if setup.half and (setup.tuning.lora or setup.zero) else torch.float32
    scores = setup.stage == "rm"
    auto: Any = transformers.AutoModelForSequenceClassification if scores else transformers.AutoModelForCausalLM
    with torch.device(device):
        model: Any = auto.from_config(config, dtype=dtype)
        model.train()
        if setup.checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if heads.KINDS[setup.stage] == "tokens":
            from trl.trainer.utils import add_fused_lm_head

            _add_in_place(model, setup)
            add_fused_lm_head(model)
            head = next_token.install(model)
            head.columns = lambda tokens: torch.arange(tokens.shape[1])  # type: ignore[method-assign]  # all are asked
        if setup.tuning.lora:
            if setup.checkpointing:
                model.enable_input_require_grads()
            options = adapter.configure(setup.tuning.lora, model, range(0), head="score" if scores else "lm")
            model = peft.get_peft_model(model, options)
    return model


class _Embedding(torch.autograd.Function):
    """An embedding that adds its gradient into its weight's, which the head's has become before."""

    @staticmethod
    def forward(ctx: Any, anchor: Any, ids: Any, module: Any) -> Any:  # noqa: ARG004 - what is differentiated
        ctx.module = module
        ctx.save_for_backward(ids)
        return torch.nn.functional.embedding(ids, module.weight.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        weight, (ids,) = ctx.module.weight, ctx.saved_tensors
        weight.grad.add_(torch.ops.aten.embedding_dense_backward(gradient, ids, len(weight), -1, False))
        return None, None, None


def _add_in_place(model: Any, setup: Setup) -> None:
    """Autograd adds a tied embedding's gradient into the head's, but never where the tensors are fake."""
    arch, how = setup.tuning.model.architecture, memory.compute(setup)
    if arch.tied and how.trained and heads.adds_in_place(arch, how, setup.tokens):
        module = model.get_input_embeddings()
        apply: Any = _Embedding.apply
        module.forward = lambda ids: apply(torch.zeros((), requires_grad=True), ids, module)


def _materialise(model: Any, setup: Setup) -> None:
    """Fake tensors in place of the meta device's; DeepSpeed casts every weight to 16 bits."""
    made: dict[Any, Any] = {}
    for module in model.modules():
        for name, old in list(module._parameters.items()):
            if old is not None and old not in made:
                dtype = torch.bfloat16 if setup.zero and setup.half else old.dtype
                made[old] = torch.nn.Parameter(torch.empty(old.shape, dtype=dtype), requires_grad=old.requires_grad)
            module._parameters[name] = made.get(old)
        for name, old in list(module._buffers.items()):
            module._buffers[name] = None if old is None else torch.empty(old.shape, dtype=old.dtype)


def _make_states(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def loss(model: Any, ids: Any, setup: Setup) -> Any:
    """What the stage's trainer differentiates, but for factors that take no memory."""
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if heads.KINDS[setup.stage] == "score":
        return model(**inputs, use_cache=False).logits.float().sum()
    return model(**inputs, labels=ids, fused_lm_head=True).log_probs.sum()


@contextlib.contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """Three things that allocate less on a GPU than on a CPU.

    Dropout keeps a mask of bytes there, TRL's kernels work in place on their tile, and addmm has an fp32 accumulator.
    """
    import trl.kernels.chunked_logprob as kernels

    def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:  # noqa: ARG001
        return torch.native_dropout(x, p, training)[0] if training and p else x

    def nothing(*args: Any, **kwargs: Any) -> None: ...

    replaced = [
        (torch.nn.functional, "dropout", dropout),
        *((kernels, name, nothing) for name in ("_forward_tile", "_backward_tile", "_addmm_fp32")),
    ]
    old = [(place, name, getattr(place, name)) for place, name, _ in replaced]
    for place, name, new in replaced:
        setattr(place, name, new)
    try:
        yield
    finally:
        for place, name, former in old:
            setattr(place, name, former)
