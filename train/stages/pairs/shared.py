"""The prompt of a pair computed once: in one row stand what both answers share, then the rest of each.

The second answer does not see the first: its positions go on from the shared part, and a mask hides the first from it.
So every token's hidden state, and with it every loss and gradient, is that of a forward of both sequences. Several
pairs fill one row where they are short (arXiv 2410.20305).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from ...model.adapter import base_of
from ...model.next_token import NOT_ASKED
from ...reporting import say

#: Rows of more than this share of the tokens of plain ones save too little: the mask makes attention dearer.
WORTHWHILE = 0.95
#: Kinds of layers in which a token sees others only as the mask says.
MASKED_LAYERS = {"full_attention", "sliding_attention"}
MASKED_ATTENTION = {"sdpa", "eager"}
#: What rounding may make of a log-probability or a score, in 32 bits (on a GPU perhaps TF32) and in 16.
ROUNDING = (0.01, 0.25)
#: What a forward may be given if its pairs are to share rows.
PLAIN_INPUTS = {"input_ids", "attention_mask", "use_cache", "return_dict"}


@dataclass(frozen=True)
class Rows:
    """R rows of L tokens that hold N sequences of at most T tokens.

    source (R, L): each token's place in the flat sequences. positions (R, L): its place in its own sequence.
    segments (R, L): 3 p + 1 for what pair p shares, 3 p + 2 and 3 p + 3 for the rest of its sequences, 0 for padding.
    place (N, T): each sequence's token's place in the flat rows (of padding 0).
    saved: how many tokens fewer they are, padding not counted.
    """

    source: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    place: torch.Tensor
    saved: int

    def visible(self) -> torch.Tensor:
        """The attention mask (R, 1, L, L): True where the token of the third axis sees that of the fourth."""
        pair, kind = (self.segments - 1) // 3, (self.segments - 1) % 3
        same_pair = pair[:, :, None] == pair[:, None, :]
        same_branch = (kind[:, None, :] == 0) | (kind[:, :, None] == kind[:, None, :])
        length = self.segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.segments.device).tril()
        return (same_pair & same_branch & causal)[:, None]


def arrange(ids: torch.Tensor, mask: torch.Tensor) -> Rows | None:
    """Rows for sequences (N, T), the first half of which are the first answers, the second half the others.

    mask (N, T): 1 for tokens, which are padded on the right. None if there are no pairs, or rows of them would not have
    clearly fewer tokens.
    """
    count, width = ids.shape
    tokens = mask.bool()
    if count % 2:
        return None
    half, sums = count // 2, tokens.sum(1)
    common = ((ids[:half] == ids[half:]) & tokens[:half] & tokens[half:]).cumprod(1).sum(1)
    as_long = tokens == (torch.arange(width, device=ids.device) < sums[:, None])
    # All that is decided by, in one copy from the device, which waits for it.
    found = torch.cat([common, sums, as_long.all()[None]]).tolist()
    lengths, is_padded_right = found[half:-1], found[-1]
    if not is_padded_right or min(lengths) == 0:
        return None
    # The last common token stands before each rest: its next token is not the same in both.
    shared = [max(0, number - 1) for number in found[:half]]
    sizes = [lengths[p] + lengths[half + p] - shared[p] for p in range(half)]
    bins = _filled(sizes)
    length = max(sizes)
    if len(bins) * length > WORTHWHILE * count * width:
        return None
    source, positions, segments = (torch.zeros(len(bins), length, dtype=torch.long) for _ in range(3))
    place = torch.zeros(count, width, dtype=torch.long)
    for row, pairs in enumerate(bins):
        at = length - sum(sizes[p] for p in pairs)  # at the end of the row, where the answers of all rows stand
        for p in pairs:
            prefix = slice(0, shared[p])
            place[[p, half + p], prefix] = torch.arange(at, at + shared[p]) + row * length
            for kind, (sequence, part) in enumerate(
                (
                    (p, prefix),
                    (p, slice(shared[p], lengths[p])),
                    (half + p, slice(shared[p], lengths[half + p])),
                ),
                start=1,
            ):
                own = torch.arange(part.start, part.stop)
                there = slice(at, at + len(own))
                source[row, there] = own + sequence * width
                positions[row, there] = own
                segments[row, there] = 3 * p + kind
                if kind > 1:
                    place[sequence, part] = torch.arange(there.start, there.stop) + row * length
                at = there.stop
    source, positions, segments, place = (it.to(ids.device) for it in (source, positions, segments, place))
    return Rows(source, positions, segments, place, saved=sum(shared))


def _filled(sizes: list[int]) -> list[list[int]]:
    """The numbers of the pairs in each row; no row is longer than the longest pair (first fit, longest first)."""
    rows: list[list[int]] = []
    room: list[int] = []
    for p in sorted(range(len(sizes)), key=lambda p: -sizes[p]):
        row = next((i for i, left in enumerate(room) if left >= sizes[p]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(max(sizes))
        rows[row].append(p)
        room[row] -= sizes[p]
    return rows


def why_not(model: Any) -> str:
    """Why a model's pairs cannot share rows; empty if they can."""
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in MASKED_ATTENTION:
        return f"attention implementation {attention} takes no mask of its own"
    others = set(getattr(config, "layer_types", None) or ()) - MASKED_LAYERS
    if others or getattr(model, "_is_stateful", False) or not getattr(model, "_supports_attention_backend", False):
        return f"{config.model_type} has layers that carry a state past the mask, or positions of its own"
    if getattr(config, "output_router_logits", False):
        return "the loss of its experts' load counts the tokens of a plain batch"
    return ""


def window(config: Any) -> int | None:
    """The tokens that the narrowest layer sees back; None: all."""
    size = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return size if slides else None


def install(model: Any) -> str:
    """Let a model's forwards of pairs compute what both share once; they return the same as before.

    model: a causal language model with a `NextTokenHead`, or a sequence classifier; also below an adapter. Its
    `tokens_saved` counts the tokens that training has not computed twice. Returns why it was not done; empty if it was.
    The first forward tries it on a made-up pair, because no list of models is complete.
    """
    base = base_of(model)
    if why := why_not(base):
        return why
    classifies = isinstance(base, GenericForSequenceClassification)
    forward, run = base.forward, _scores if classifies else _next_tokens
    narrowest = window(base.config.get_text_config())

    @functools.cache
    def agrees() -> bool:
        return _agrees(base, forward, run)

    @functools.wraps(forward)
    def shared_forward(*args: Any, **kwargs: Any) -> Any:
        fused = kwargs.get("fused_lm_head", False)
        # (PEFT passes None for what it was not given, and `return_dict`.)
        given = {name for name, it in kwargs.items() if it is not None} - {"fused_lm_head", "labels"}
        tuples = kwargs.get("return_dict") is False
        if tuples or args or not (classifies or fused) or not {"input_ids", "attention_mask"} <= given <= PLAIN_INPUTS:
            return forward(*args, **kwargs)
        ids, rows = kwargs["input_ids"], None
        if agrees() and (narrowest is None or ids.shape[1] <= narrowest):
            rows = arrange(ids, kwargs["attention_mask"])
        if rows is None:
            return forward(**kwargs)
        if torch.is_grad_enabled():
            base.tokens_saved += rows.saved
        return run(base, forward, rows, ids, kwargs.get("labels"))

    base.forward = shared_forward
    base.tokens_saved = 0
    return ""


def _agrees(model: Any, forward: Callable[..., Any], run: Callable[..., Any]) -> bool:
    """Whether rows give what plain sequences give: tried by every rank on the same pair, which ZeRO-3 needs."""
    config = model.config.get_text_config()
    tokens = [i for i in range(1, 22) if i != config.pad_token_id][:20]
    ids = torch.tensor([tokens[:16], [*tokens[:12], *tokens[16:]]], device=model.device) % config.vocab_size
    mask = torch.ones_like(ids)
    rows, was_training = arrange(ids, mask), model.training
    asked = {} if run is _scores else {"labels": ids, "fused_lm_head": True}
    model.eval()
    try:
        with torch.no_grad():
            plain = forward(input_ids=ids, attention_mask=mask, use_cache=False, **asked)
            found = run(model, forward, rows, ids, asked.get("labels"))
    finally:
        model.train(was_training)
    name = "log_probs" if asked else "logits"
    difference = float((found[name].float() - plain[name].float()).abs().max())
    halves = model.dtype.itemsize < 4 or torch.is_autocast_enabled(ids.device.type)
    if not difference <= ROUNDING[halves]:  # NaN is not, either
        say(f"the prompt of a pair is computed for each answer: computed once, {name} differ by {difference:.2g}")
        return False
    return True


def _inputs(model: Any, rows: Rows, ids: torch.Tensor) -> dict[str, Any]:
    seen = rows.visible()
    if model.config.get_text_config()._attn_implementation == "eager":  # it adds the mask to the scores
        dtype = torch.get_autocast_dtype(ids.device.type) if torch.is_autocast_enabled(ids.device.type) else model.dtype
        seen = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return {
        "input_ids": ids.flatten()[rows.source],
        "position_ids": rows.positions,
        "attention_mask": seen,
        "use_cache": False,
    }


def _next_tokens(model: Any, forward: Callable[..., Any], rows: Rows, ids: torch.Tensor, labels: Any) -> Any:
    """As the forward of the sequences: TRL's output, of shape (N, T - 1), for labels (N, T)."""
    wanted, place = labels[:, 1:], rows.place[:, :-1]
    # What both sequences share has the same next token in both, and is asked for if one of them asks.
    tokens = torch.full_like(rows.source, NOT_ASKED)
    tokens.view(-1).scatter_reduce_(0, place.flatten(), wanted.flatten(), "amax")
    found = forward(**_inputs(model, rows, ids), shift_labels=tokens, fused_lm_head=True)
    asked = wanted != NOT_ASKED
    for name, values in list(found.items()):
        if name not in ("loss", "aux_loss"):
            found[name] = values.flatten()[place] * asked
    found["label_mask"] = asked
    return found


def _scores(model: Any, forward: Callable[..., Any], rows: Rows, ids: torch.Tensor, labels: None) -> Any:
    """As the forward of the sequences: one score (N, 1) at the last token of each.

    As transformers has it that is the last one that is not the pad token, be it the end-of-sequence token, too.
    """
    del forward, labels
    hidden = getattr(model, model.base_model_prefix)(**_inputs(model, rows, ids)).last_hidden_state
    places = torch.arange(ids.shape[1], device=ids.device)
    column = (places * (ids != model.config.get_text_config().pad_token_id)).argmax(1, keepdim=True)
    last = rows.place.gather(1, column).squeeze(1)
    return SequenceClassifierOutputWithPast(logits=model.score(hidden.flatten(0, 1)[last]))
